/* SPDX-License-Identifier: MIT */
/* Growing the call tree: the cold half, see tree.h for the hot one and for what the structure is.  Called once for each
 * new call path; everything here may cost a microsecond. */
#include "ledger/tree.h"

#include <string.h>

#define FIRST_BUCKETS 2048u

/* Keys of nodes that have no instruction are odd, so that they never equal an address of one. */
#define ODD_KEY(x) (((uint64_t)(x) << 1) | 1)
#define REGION_KEY(x) (ODD_KEY(x) | (uint64_t)1 << 63) /* a thread may import something of the same name */

static uint32_t hash_of(uint32_t parent, uint64_t ip)
{
    uint64_t h = ip * 0x9E3779B97F4A7C15u ^ (uint64_t)parent * 0xD6E8FEB86659FD93u;
    return (uint32_t)(h >> 32);
}

uint32_t heft_tree_probe(const heft_tree_t *tree, uint32_t parent, uint64_t ip, uint32_t *import_switch)
{
    uint32_t i = tree->buckets[hash_of(parent, ip) & tree->bucket_mask];
    for (; i != 0; i = tree->nodes[i].next) {
        const heft_node_t *node = &tree->nodes[i];
        if (node->ip != ip || node->parent != parent)
            continue;
        if (node->allocated_blocks >= 0)
            return i;
        if (node->freed_blocks == 0)
            return (uint32_t)node->epoch;
        *import_switch = i;
        return 0;
    }
    return 0;
}

static void link_node(heft_tree_t *tree, uint32_t number)
{
    heft_node_t *node = &tree->nodes[number];
    uint32_t *head = &tree->buckets[hash_of(node->parent, node->ip) & tree->bucket_mask];
    node->next = *head;
    *head = number;
}

static void unlink_node(heft_tree_t *tree, uint32_t number)
{
    heft_node_t *node = &tree->nodes[number];
    uint32_t *at = &tree->buckets[hash_of(node->parent, node->ip) & tree->bucket_mask];
    while (*at != number) {
        HEFT_ASSERT(*at != 0);
        at = &tree->nodes[*at].next;
    }
    *at = node->next;
}

static void grow_buckets(heft_tree_t *tree)
{
    uint32_t n = (tree->bucket_mask + 1) * 2;
    if (n > HEFT_NODES_MAX)
        return;
    memset(tree->buckets, 0, (size_t)n * sizeof *tree->buckets);
    tree->bucket_mask = n - 1;
    for (uint32_t i = tree->node_n - 1; i >= 1; i--) {
        if (tree->nodes[i].ip != 0)
            link_node(tree, i);
    }
}

/* Do stacks begin at this node: is it a thread or a region? */
static bool is_base(const heft_tree_t *tree, uint32_t node)
{
    return tree->details[node].kind == HEFT_NODE_THREAD || tree->details[node].kind == HEFT_NODE_REGION;
}

/* The next node's number with both of its halves mapped, or 0. */
static uint32_t new_node(heft_tree_t *tree, uint32_t parent, uint64_t ip, heft_node_kind_t kind)
{
    uint32_t number = tree->node_n;
    if (number >= HEFT_NODES_MAX || !heft_ledger_reach(tree->ledger, HEFT_COLUMN_NODE, number, sizeof(heft_node_t)) ||
        !heft_ledger_reach(tree->ledger, HEFT_COLUMN_DETAIL, number, sizeof(heft_detail_t)))
        return 0;
    HEFT_ASSERT(parent < number);
    tree->nodes[number] = (heft_node_t){.ip = ip, .parent = parent, .epoch = tree->epoch};
    tree->details[number] = (heft_detail_t){.first_ns = tree->now_ns, .kind = (uint8_t)kind};
    return number;
}

/* Make the node visible to the hot path and to readers. */
static void publish_node(heft_tree_t *tree, uint32_t number)
{
    tree->node_n = number + 1;
    __atomic_store_n(&tree->header->node_n, number + 1, __ATOMIC_RELEASE);
    link_node(tree, number);
    if (tree->node_n > tree->bucket_mask)
        grow_buckets(tree);
}

static void make_alias(heft_tree_t *tree, uint32_t number, uint32_t target)
{
    HEFT_ASSERT(target != 0 && tree->details[target].kind != HEFT_NODE_ALIAS);
    tree->nodes[number].allocated_blocks = HEFT_NODE_ALIAS_MARK;
    tree->nodes[number].epoch = target;
    tree->details[number].kind = HEFT_NODE_ALIAS;
}

static uint32_t cut(heft_tree_t *tree, uint32_t parent)
{
    tree->header->cut_events++;
    tree->details[parent].flags |= HEFT_DETAIL_CUT;
    return parent;
}

/* The ancestor (or self) of `node` that already stands at instruction `ip`, or 0.  Looks no further than the nearest
 * import: importlib's frames repeat in nested imports, and those are not recursion.  (Odd keys: import, thread, root.)
 */
static uint32_t find_on_path(const heft_tree_t *tree, uint32_t node, uint64_t ip)
{
    for (; (tree->nodes[node].ip & 1) == 0; node = tree->nodes[node].parent) {
        if (tree->nodes[node].ip == ip)
            return node;
    }
    return 0;
}

/* The outermost ancestor (or self) of `node` that runs `code`, or 0. */
static uint32_t find_code_on_path(const heft_tree_t *tree, uint32_t node, uint32_t code)
{
    uint32_t found = 0;
    for (; (tree->nodes[node].ip & 1) == 0; node = tree->nodes[node].parent) {
        if (tree->details[node].what == code)
            found = node;
    }
    return found;
}

/* In a plain tree: of a path that is longer than what is kept, the node of the part that is; else 0. */
static uint32_t kept_target(heft_tree_t *tree, uint32_t parent, uint64_t ip, const heft_frame_info_t *frame)
{
    uint32_t kept = tree->frames_kept, path[HEFT_TREE_KEPT_MAX], n = 0, base = parent, unused = 0;
    if (kept > HEFT_TREE_KEPT_MAX || tree->node_n < HEFT_TREE_FOLD_CODE || tree->node_n >= HEFT_TREE_FLAT)
        return 0;
    for (; n < kept - 1 && (tree->nodes[base].ip & 1) == 0; base = tree->nodes[base].parent)
        path[n++] = base;
    if (tree->details[base].kind != HEFT_NODE_FRAME)
        return 0; /* not longer */
    while (tree->details[base].kind == HEFT_NODE_FRAME)
        base = tree->nodes[base].parent;
    /* one level of insert each: these paths are not longer than what is kept */
    while (n-- > 0) {
        const heft_detail_t *detail = &tree->details[path[n]];
        heft_frame_info_t info = {
            .code = detail->what, .instr = detail->instr, .line = detail->line, .column = detail->column};
        uint64_t at = tree->nodes[path[n]].ip; /* of a frame that runs: its code is alive */
        if (at == 0)
            return 0;
        uint32_t next = heft_tree_probe(tree, base, at, &unused);
        base = next != 0 ? next : heft_tree_insert(tree, base, at, &info);
    }
    uint32_t target = heft_tree_probe(tree, base, ip, &unused);
    return target != 0 ? target : heft_tree_insert(tree, base, ip, frame);
}

/* The node that a new path (parent, ip) is to be an alias of, or 0: it becomes a node of its own. */
static uint32_t fold_target(heft_tree_t *tree, uint32_t parent, uint64_t ip, const heft_frame_info_t *frame)
{
    if (frame->incomplete)
        return parent;
    if (frame->import_switch)
        return 0; /* imports nest in each other without being recursion */
    if (tree->frames_kept != 0)
        return kept_target(tree, parent, ip, frame);
    uint32_t ancestor = find_on_path(tree, parent, ip);
    if (ancestor == 0 && tree->node_n >= HEFT_TREE_FOLD_CODE) {
        uint32_t outermost = find_code_on_path(tree, parent, frame->code);
        if (outermost != 0) {
            uint32_t base = tree->nodes[outermost].parent, import_switch = 0;
            ancestor = heft_tree_probe(tree, base, ip, &import_switch);
            if (ancestor == 0)
                ancestor = heft_tree_insert(tree, base, ip, frame); /* one level: `base` is above every activation */
            if (ancestor == base)
                return parent; /* there was no room, and the cut is counted */
        }
    }
    if (ancestor != 0) {
        tree->details[ancestor].flags |= HEFT_DETAIL_RECURSIVE;
        tree->header->folded_nodes++;
    }
    return ancestor;
}

bool heft_tree_is_machinery(const heft_tree_t *tree, uint64_t ip)
{
    uint32_t unused = 0;
    /* (a frame of its own may stand there too, when its thread found no room for a node) */
    return heft_tree_probe(tree, HEFT_TREE_ROOT, ip, &unused) == HEFT_TREE_ROOT;
}

/* The tree is large: the innermost line is kept, how it was reached is not. */
static uint32_t insert_flat(heft_tree_t *tree, uint32_t parent, uint64_t ip, const heft_frame_info_t *frame)
{
    uint32_t unused = 0;
    while (!is_base(tree, parent) && parent > HEFT_TREE_ROOT)
        parent = tree->nodes[parent].parent;
    tree->header->flags |= HEFT_FLAG_PATHS_CUT;
    uint32_t node = heft_tree_probe(tree, parent, ip, &unused);
    if (node == 0 && !is_base(tree, parent))
        return cut(tree, parent);
    if (node == 0)
        node = heft_tree_insert(tree, parent, ip, frame); /* one level: it is a base's child now */
    if (node != parent)
        tree->details[node].flags |= HEFT_DETAIL_FLAT;
    return node;
}

HEFT_COLD uint32_t heft_tree_insert(heft_tree_t *tree, uint32_t parent, uint64_t ip, const heft_frame_info_t *frame)
{
    HEFT_ASSERT(parent != 0 && tree->details[parent].kind != HEFT_NODE_ALIAS);
    HEFT_ASSERT(ip != 0 && (ip & 1) == 0);
    if (frame->code == 0)
        return cut(tree, parent);
    bool machinery = frame->machinery && !frame->import_switch;
    uint32_t target = machinery ? HEFT_TREE_ROOT : fold_target(tree, parent, ip, frame);
    if (target != 0 && !machinery && !frame->incomplete && tree->frames_kept == 0 &&
        tree->node_n >= HEFT_TREE_FOLD_CODE)
        return target; /* an alias for each way into a recursion would cost more than looking for it again */
    if (target == 0 && tree->node_n >= HEFT_TREE_FLAT && !frame->import_switch && !is_base(tree, parent))
        return insert_flat(tree, parent, ip, frame);
    uint32_t number = new_node(tree, machinery ? HEFT_TREE_ROOT : parent, ip, HEFT_NODE_FRAME);
    if (machinery && number == 0)
        return parent;
    if (number == 0)
        return target != 0 ? target : cut(tree, parent);
    heft_detail_t *detail = &tree->details[number];
    heft_code_t *code = &heft_ledger_codes(tree->ledger)[frame->code];
    detail->what = frame->code;
    detail->instr = frame->instr;
    detail->line = frame->line;
    detail->column = frame->column;
    detail->next_of_code = code->first_node;
    code->first_node = number;
    if (target != 0) {
        make_alias(tree, number, target);
    } else if (frame->import_switch) {
        make_alias(tree, number, parent);
        tree->nodes[number].freed_blocks = 1; /* see heft_tree_probe */
        target = number;
    }
    publish_node(tree, number);
    HEFT_SLOWCHECK(heft_tree_check(tree));
    if (machinery)
        return parent;
    return target != 0 ? target : number;
}

HEFT_COLD uint32_t heft_tree_import(heft_tree_t *tree, uint32_t import_switch, heft_str_t name)
{
    uint32_t parent = tree->nodes[import_switch].parent, unused = 0;
    uint32_t string = heft_strings_put(&tree->strings, name);
    uint64_t key = ODD_KEY(string);
    uint32_t number = heft_tree_probe(tree, parent, key, &unused);
    if (number != 0)
        return number;
    number = new_node(tree, parent, key, HEFT_NODE_IMPORT);
    if (number == 0)
        return cut(tree, parent);
    tree->details[number].what = string;
    publish_node(tree, number);
    return number;
}

HEFT_COLD uint32_t heft_tree_region(heft_tree_t *tree, uint32_t base, heft_str_t name)
{
    HEFT_ASSERT(is_base(tree, base));
    bool is_room = tree->region_n < HEFT_REGIONS_MAX;
    uint32_t unused = 0;
    uint32_t string = is_room ? heft_strings_put(&tree->strings, name) : heft_strings_find(&tree->strings, name);
    bool is_named = string != 0 || name.bytes == 0; /* else there is no room for its name, or no region has it */
    if (is_named && tree->details[base].kind == HEFT_NODE_REGION && tree->details[base].what == string)
        return base; /* recursion */
    uint64_t key = REGION_KEY(string);
    uint32_t number = is_named ? heft_tree_probe(tree, base, key, &unused) : 0;
    if (number != 0)
        return number;
    number = is_named && is_room ? new_node(tree, base, key, HEFT_NODE_REGION) : 0;
    if (number == 0) {
        tree->header->flags |= HEFT_FLAG_REGIONS_CUT;
        return base;
    }
    tree->region_n++;
    tree->details[number].what = string;
    publish_node(tree, number);
    return number;
}

HEFT_COLD uint32_t heft_tree_thread(heft_tree_t *tree, uint64_t native_id, uint32_t flags)
{
    uint32_t index = tree->header->thread_n;
    if (index >= HEFT_THREADS_MAX || !heft_ledger_reach(tree->ledger, HEFT_COLUMN_THREAD, index, sizeof(heft_thread_t)))
        return 0;
    uint32_t number = new_node(tree, HEFT_TREE_ROOT, ODD_KEY(index), HEFT_NODE_THREAD);
    if (number == 0)
        return 0;
    tree->details[number].what = index;
    heft_ledger_threads(tree->ledger)[index] =
        (heft_thread_t){.native_id = native_id, .started_ns = tree->now_ns, .node = number, .flags = flags};
    __atomic_store_n(&tree->header->thread_n, index + 1, __ATOMIC_RELEASE);
    publish_node(tree, number);
    return number;
}

void heft_tree_name_thread(heft_tree_t *tree, uint32_t node, heft_str_t name)
{
    HEFT_ASSERT(tree->details[node].kind == HEFT_NODE_THREAD);
    heft_ledger_threads(tree->ledger)[tree->details[node].what].name = heft_strings_put(&tree->strings, name);
}

static uint32_t index_of(uint64_t key)
{
    return (uint32_t)((key * 0x9E3779B97F4A7C15u) >> 40) & (HEFT_TREE_CODE_INDEX - 1);
}

uint32_t heft_tree_find_code(const heft_tree_t *tree, uint64_t address)
{
    uint32_t i = tree->live_index[index_of(address)];
    while (i != 0 && heft_ledger_codes(tree->ledger)[i].address != address)
        i = tree->codes[i].next_live;
    return i;
}

static void make_live(heft_tree_t *tree, uint32_t number, const heft_code_info_t *info)
{
    uint32_t *head = &tree->live_index[index_of(info->address)];
    heft_code_slot_t *slot = &tree->codes[number];
    slot->base = info->base;
    slot->end = info->end;
    slot->next_live = *head;
    *head = number;
    heft_ledger_codes(tree->ledger)[number].address = info->address;
}

/* Where a dead code object waits to come back: by all that tells it from others, since functions of equal shape have
 * equal keys. */
static uint32_t *dead_bucket(heft_tree_t *tree, uint64_t key, const heft_code_t *code)
{
    uint64_t text = (uint64_t)code->file << 40 ^ (uint64_t)code->name << 20 ^ code->first_line;
    return &tree->dead_index[index_of(key ^ text * 0xD6E8FEB86659FD93u)];
}

/* A dead code object of the same text, taken out of the index of dead ones; or 0. */
static uint32_t take_dead(heft_tree_t *tree, const heft_code_info_t *info, const heft_code_t *like)
{
    uint32_t *at = dead_bucket(tree, info->key, like);
    for (; *at != 0; at = &tree->codes[*at].next_dead) {
        uint32_t number = *at;
        const heft_code_t *code = &heft_ledger_codes(tree->ledger)[number];
        if (tree->codes[number].key == info->key && code->file == like->file && code->name == like->name &&
            code->first_line == like->first_line) {
            *at = tree->codes[number].next_dead;
            return number;
        }
    }
    return 0;
}

HEFT_COLD uint32_t heft_tree_add_code(heft_tree_t *tree, const heft_code_info_t *info)
{
    HEFT_ASSERT(info->address != 0 && heft_tree_find_code(tree, info->address) == 0);
    heft_code_t code = {
        .file = heft_strings_put(&tree->strings, info->file),
        .name = heft_strings_put(&tree->strings, info->name),
        .first_line = info->first_line,
        .flags = info->flags,
    };
    uint32_t number = take_dead(tree, info, &code);
    if (number != 0) {
        make_live(tree, number, info);
        for (uint32_t i = heft_ledger_codes(tree->ledger)[number].first_node; i != 0;
             i = tree->details[i].next_of_code) {
            tree->nodes[i].ip =
                info->base + (uint64_t)(int64_t)(int32_t)tree->details[i].instr; /* -2: before the first */
            link_node(tree, i);
        }
        return number;
    }
    number = tree->header->code_n;
    if (number >= HEFT_CODES_MAX || !heft_ledger_reach(tree->ledger, HEFT_COLUMN_CODE, number, sizeof(heft_code_t)))
        return 0;
    heft_ledger_codes(tree->ledger)[number] = code;
    tree->codes[number] = (heft_code_slot_t){.key = info->key};
    make_live(tree, number, info);
    __atomic_store_n(&tree->header->code_n, number + 1, __ATOMIC_RELEASE);
    return number;
}

void heft_tree_name_module(heft_tree_t *tree, uint32_t code, heft_str_t module)
{
    heft_ledger_codes(tree->ledger)[code].module = heft_strings_put(&tree->strings, module);
}

HEFT_COLD void heft_tree_retire_code(heft_tree_t *tree, uint64_t address)
{
    uint32_t *at = &tree->live_index[index_of(address)];
    while (*at != 0 && heft_ledger_codes(tree->ledger)[*at].address != address)
        at = &tree->codes[*at].next_live;
    uint32_t number = *at;
    if (number == 0)
        return; /* it never allocated anything */
    *at = tree->codes[number].next_live;
    heft_code_t *code = &heft_ledger_codes(tree->ledger)[number];
    for (uint32_t i = code->first_node; i != 0; i = tree->details[i].next_of_code) {
        unlink_node(tree, i);
        tree->nodes[i].ip = 0;
    }
    code->address = 0;
    heft_code_slot_t *slot = &tree->codes[number];
    for (uint32_t i = 0; i < HEFT_TREE_MEMOS + HEFT_TREE_PLACES; i++) {
        if (tree->memos[i].ip + 2 >= slot->base && tree->memos[i].ip < slot->end)
            tree->memos[i] = (heft_memo_t){0};
    }
    uint32_t *head = dead_bucket(tree, slot->key, code);
    slot->base = slot->end = 0;
    slot->next_dead = *head;
    *head = number;
    HEFT_SLOWCHECK(heft_tree_check(tree));
}

HEFT_COLD void heft_tree_add_temp(heft_tree_t *tree, uint32_t node)
{
    uint32_t number = tree->header->temp_n;
    HEFT_ASSERT(tree->details[node].temp == 0);
    if (node == HEFT_TREE_ROOT) /* its record is number 0, where others without one are counted as well */
        return;
    if (number >= HEFT_TEMPS_MAX || !heft_ledger_reach(tree->ledger, HEFT_COLUMN_TEMP, number, sizeof(heft_temp_t)))
        return;
    __atomic_store_n(&tree->header->temp_n, number + 1, __ATOMIC_RELEASE);
    tree->details[node].temp = number;
}

/* One block, then the others: what the inline functions do with counters stands in one place. */
void heft_tree_count_allocs(heft_tree_t *tree, uint32_t node, int64_t bytes, int64_t blocks)
{
    heft_tree_count_alloc(tree, node, (size_t)bytes);
    tree->nodes[node].allocated_blocks += blocks - 1;
}

void heft_tree_count_frees(heft_tree_t *tree, uint32_t node, int64_t bytes, int64_t blocks)
{
    heft_tree_count_free(tree, node, (size_t)bytes);
    tree->nodes[node].freed_blocks += blocks - 1;
}

void heft_tree_count_temps(heft_tree_t *tree, uint32_t node, int64_t bytes, int64_t blocks, unsigned since)
{
    heft_tree_count_temp(tree, node, (size_t)bytes, since);
    heft_detail_t *detail = &tree->details[node];
    if (since == 0)
        detail->temporary_blocks += (uint64_t)(blocks - 1);
    else
        tree->temps[detail->temp].blocks[since / 2] += (uint64_t)(blocks - 1);
}

void heft_tree_reset_peak(heft_tree_t *tree)
{
    tree->peak_bytes = tree->live_bytes;
    tree->epoch++;
    tree->header->peak_at_ns = tree->now_ns;
    heft__tree_touch(tree, &tree->nodes[HEFT_TREE_ROOT]); /* readers know the present epoch by a node that has it */
}

void heft_tree_clear(heft_tree_t *tree)
{
    for (uint32_t i = 1; i < tree->node_n; i++) {
        heft_node_t *node = &tree->nodes[i];
        if (node->allocated_blocks < 0)
            continue; /* an alias */
        node->freed_bytes = node->allocated_bytes;
        node->freed_blocks = node->allocated_blocks;
    }
    tree->live_bytes = 0;
    heft_tree_reset_peak(tree);
}

bool heft_tree_check(const heft_tree_t *tree)
{
    uint32_t linked = 0, expected = 0;
    for (uint32_t b = 0; b <= tree->bucket_mask; b++) {
        for (uint32_t i = tree->buckets[b]; i != 0; i = tree->nodes[i].next) {
            const heft_node_t *node = &tree->nodes[i];
            if (i >= tree->node_n || (hash_of(node->parent, node->ip) & tree->bucket_mask) != b)
                return false;
            linked++;
        }
    }
    int64_t live = 0;
    for (uint32_t i = 1; i < tree->node_n; i++) {
        const heft_node_t *node = &tree->nodes[i];
        expected += node->ip != 0;
        if (node->parent >= i || (i > HEFT_TREE_ROOT && node->parent == 0))
            return false;
        if (node->allocated_blocks < 0) {
            if (node->epoch == 0 || node->epoch >= tree->node_n || tree->details[i].kind != HEFT_NODE_ALIAS ||
                tree->nodes[node->epoch].allocated_blocks < 0)
                return false;
            continue;
        }
        if (node->epoch > tree->epoch || node->freed_bytes > node->allocated_bytes ||
            node->freed_blocks > node->allocated_blocks)
            return false;
        live += node->allocated_bytes - node->freed_bytes;
    }
    return linked == expected && live == tree->live_bytes && tree->node_n == tree->header->node_n;
}

size_t heft_tree_tool_bytes(const heft_tree_t *tree)
{
    size_t bytes = (HEFT_TREE_MEMOS + HEFT_TREE_PLACES) * sizeof(heft_memo_t) +
                   ((size_t)tree->bucket_mask + 1) * sizeof(uint32_t) +
                   ((size_t)tree->strings.mask + 1) * sizeof(uint32_t);
    bytes += (size_t)tree->header->code_n * sizeof(heft_code_slot_t) + 2 * HEFT_TREE_CODE_INDEX * sizeof(uint32_t);
    for (uint32_t kind = HEFT_COLUMN_NODE; kind <= HEFT_COLUMN_THREAD; kind++)
        bytes += heft_ledger_column_bytes(tree->header, kind);
    return bytes + 2 * HEFT_FORMAT_PAGE;
}

bool heft_tree_init(heft_tree_t *tree, heft_ledger_t *ledger)
{
    *tree = (heft_tree_t){.ledger = ledger, .header = ledger->header, .epoch = 1, .node_n = 1};
    tree->nodes = heft_ledger_nodes(ledger);
    tree->details = heft_ledger_details(ledger);
    tree->temps = heft_ledger_temps(ledger);
    size_t code_bytes = HEFT_CODES_MAX * sizeof(heft_code_slot_t) + 2 * HEFT_TREE_CODE_INDEX * sizeof(uint32_t);
    if (!heft_strings_init(&tree->strings, ledger) ||
        !heft_region_init(&tree->bucket_region, HEFT_NODES_MAX * sizeof(uint32_t)) ||
        !heft_region_init(&tree->memo_region, (HEFT_TREE_MEMOS + HEFT_TREE_PLACES) * sizeof(heft_memo_t)) ||
        !heft_region_init(&tree->code_region, code_bytes)) {
        heft_tree_done(tree);
        return false;
    }
    tree->buckets = (uint32_t *)(void *)tree->bucket_region.base;
    tree->bucket_mask = FIRST_BUCKETS - 1;
    tree->memos = (heft_memo_t *)(void *)tree->memo_region.base;
    tree->live_index = (uint32_t *)(void *)tree->code_region.base;
    tree->dead_index = tree->live_index + HEFT_TREE_CODE_INDEX;
    tree->codes = (heft_code_slot_t *)(void *)(tree->dead_index + HEFT_TREE_CODE_INDEX);
    uint32_t root = new_node(tree, 0, ODD_KEY(0), HEFT_NODE_ROOT);
    HEFT_ASSERT(root == HEFT_TREE_ROOT); /* attach mapped the first chunks */
    publish_node(tree, root);
    return true;
}

void heft_tree_done(heft_tree_t *tree)
{
    heft_strings_done(&tree->strings);
    heft_region_done(&tree->bucket_region);
    heft_region_done(&tree->code_region);
    heft_region_done(&tree->memo_region);
    *tree = (heft_tree_t){0};
}
