// speedscope's own importers, run over a file: each profile as a line of JSON.  Bundled by test_export_consumers.py
// against a checkout of speedscope (MEMHEFT_SPEEDSCOPE) that has esbuild among its node_modules.
import {importSpeedscopeProfiles} from 'speedscope/src/lib/file-format'
import {importAsPprofProfile} from 'speedscope/src/import/pprof'
import {importFromBGFlameGraph} from 'speedscope/src/import/bg-flamegraph'
import * as fs from 'fs'
import * as zlib from 'zlib'

function profiles(path: string): any[] {
  const bytes = fs.readFileSync(path)
  if (path.endsWith('.speedscope.json')) {
    const group = importSpeedscopeProfiles(JSON.parse(bytes.toString()))
    return [group.profiles[group.indexToView], ...group.profiles]
  }
  if (path.endsWith('.pb.gz')) return [importAsPprofProfile(new Uint8Array(zlib.gunzipSync(bytes)).buffer as any)]
  return [importFromBGFlameGraph({splitLines: () => bytes.toString().split('\n')} as any)]
}

for (const profile of profiles(process.argv[2])) {
  const names: string[] = []
  profile.forEachFrame((frame: any) => names.push(frame.name))
  const of = {name: profile.getName(), unit: profile.getWeightUnit(), total: profile.getTotalWeight(), names}
  console.log(JSON.stringify(of))
}
