/* SPDX-License-Identifier: MIT */
/* The call tree: what answers for a path, against a model that knows all paths; what happens when code dies, when the
 * tree is very large, and when there is no room.  (What is counted: test_peak.c.) */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/map.h"
#include "build_recording.h"
#include "writer.h"

static int set_up(void **state)
{
    *state = malloc(sizeof(writer_t));
    assert_non_null(*state);
    writer_init(*state);
    return 0;
}

static int set_up_small(void **state)
{
    *state = malloc(sizeof(writer_t));
    assert_non_null(*state);
    writer_init_small(*state);
    return 0;
}

static int tear_down(void **state)
{
    limit_file_size((uint64_t)RLIM_INFINITY);
    writer_done(*state);
    free(*state);
    return 0;
}

static uint32_t add_code(heft_tree_t *tree, uint64_t address, uint64_t key, const char *name)
{
    heft_code_info_t info = code_info(address, key, name);
    return heft_tree_add_code(tree, &info);
}

/* ---- paths, one by one --------------------------------------------------------------------------------------- */

static void test_paths_are_told_apart_and_found_again(void **state)
{
    heft_tree_t *tree = &((writer_t *)*state)->tree;
    uint32_t root = ((writer_t *)*state)->thread;
    uint32_t f = add_code(tree, 0x1000, 1, "f"), g = add_code(tree, 0x2000, 2, "g");
    uint32_t f10 = plain_child(tree, root, f, 0x1000, 10), f20 = plain_child(tree, root, f, 0x1000, 20);
    assert_int_not_equal(f10, f20);
    uint32_t g1 = plain_child(tree, f10, g, 0x2000, 4), g2 = plain_child(tree, f20, g, 0x2000, 4);
    assert_int_not_equal(g1, g2);
    assert_int_equal(plain_child(tree, f10, g, 0x2000, 4), g1);
    assert_int_equal(plain_child(tree, f20, g, 0x2000, 4), g2);
    assert_int_equal(tree->nodes[g1].parent, f10);
    assert_int_equal(tree->details[g1].line, 3);
    /* before its RESUME a frame's work belongs to its caller */
    static const uint32_t early[] = {0, 2, (uint32_t)-2};
    for (size_t i = 0; i < 3; i++) {
        heft_frame_info_t frame = {.code = g, .instr = early[i], .incomplete = true};
        assert_int_equal(child(tree, f10, 0x2000, &frame, ""), f10);
        assert_int_equal(child(tree, f10, 0x2000, &frame, ""), f10);
    }
    assert_true(heft_tree_check(tree));
}

static void test_recursion_is_folded_but_not_across_imports(void **state)
{
    heft_tree_t *tree = &((writer_t *)*state)->tree;
    uint32_t root = ((writer_t *)*state)->thread;
    uint32_t f = add_code(tree, 0x1000, 1, "f"), importer = add_code(tree, 0x3000, 3, "_find_and_load");
    uint32_t f10 = plain_child(tree, root, f, 0x1000, 10), node = f10;
    uint32_t before = tree->node_n;
    for (int depth = 0; depth < 10000; depth++)
        node = plain_child(tree, node, f, 0x1000, 10);
    assert_int_equal(node, f10);
    assert_int_equal(tree->node_n, before + 1); /* one alias, whatever the depth */
    assert_true(tree->details[f10].flags & HEFT_DETAIL_RECURSIVE);
    assert_int_equal(tree->header->folded_nodes, 1);

    heft_frame_info_t info = {.code = importer, .instr = 0, .machinery = true, .import_switch = true};
    uint64_t ip = base_of(0x3000);
    uint32_t import_switch = heft_tree_insert(tree, f10, ip, &info), found = 0;
    assert_int_equal(tree->details[import_switch].kind, HEFT_NODE_ALIAS);
    assert_int_equal(heft_tree_probe(tree, f10, ip, &found), 0);
    assert_int_equal(found, import_switch);
    uint32_t a = heft_tree_import(tree, import_switch, str("a")), b = heft_tree_import(tree, import_switch, str("b"));
    assert_int_not_equal(a, b);
    assert_int_equal(heft_tree_import(tree, import_switch, str("a")), a);
    assert_int_equal(tree->nodes[a].parent, f10);
    assert_int_not_equal(plain_child(tree, a, f, 0x1000, 10), f10); /* the same instruction, called while importing */

    info = (heft_frame_info_t){.code = importer, .instr = 8, .machinery = true};
    assert_false(heft_tree_is_machinery(tree, base_of(0x3000) + 8));
    assert_int_equal(heft_tree_insert(tree, a, base_of(0x3000) + 8, &info), a);
    assert_true(heft_tree_is_machinery(tree, base_of(0x3000) + 8));
    assert_true(heft_tree_check(tree));
}

/* Frames stand under the root when a thread found no room for a node of its own.  They are shown, there and
 * elsewhere. */
static void test_what_stands_under_the_root_is_no_machinery(void **state)
{
    heft_tree_t *tree = &((writer_t *)*state)->tree;
    uint32_t thread = ((writer_t *)*state)->thread, f = add_code(tree, 0x1000, 1, "f");
    uint32_t under_root = plain_child(tree, HEFT_TREE_ROOT, f, 0x1000, 10);
    assert_int_equal(tree->nodes[under_root].parent, HEFT_TREE_ROOT);
    assert_false(heft_tree_is_machinery(tree, base_of(0x1000) + 10));
    uint32_t under_thread = plain_child(tree, thread, f, 0x1000, 10);
    assert_int_not_equal(under_thread, thread);
    assert_int_equal(tree->nodes[under_thread].parent, thread);
}

/* ---- regions ------------------------------------------------------------------------------------------------- */

static void test_regions_are_told_apart_and_found_again(void **state)
{
    writer_t *w = *state;
    heft_tree_t *tree = &w->tree;
    uint32_t second = heft_tree_thread(tree, 4712, 0);
    uint32_t a = heft_tree_region(tree, w->thread, str("a")), b = heft_tree_region(tree, w->thread, str("b"));
    uint32_t aa = heft_tree_region(tree, a, str("c")), ab = heft_tree_region(tree, a, str("b"));
    uint32_t other = heft_tree_region(tree, second, str("a")), empty = heft_tree_region(tree, a, str(""));
    const struct {
        uint32_t node, parent;
        const char *name;
    } made[] = {{a, w->thread, "a"}, {b, w->thread, "b"},  {aa, a, "c"},
                {ab, a, "b"},        {other, second, "a"}, {empty, a, ""}};
    enum { N = sizeof made / sizeof *made };
    assert_int_equal(heft_tree_region(tree, a, str("a")), a); /* directly within itself */
    assert_int_equal(tree->node_n, 2 + 2 + N);                /* number 0, the root, two threads */
    assert_int_equal(tree->region_n, N);
    heft_reader_t reader;
    for (uint32_t i = 0; i < N; i++) {
        for (uint32_t k = 0; k < i; k++)
            assert_int_not_equal(made[i].node, made[k].node);
        assert_int_equal(heft_tree_region(tree, made[i].parent, str(made[i].name)), made[i].node);
        assert_int_equal(tree->nodes[made[i].node].parent, made[i].parent);
        assert_int_equal(tree->details[made[i].node].kind, HEFT_NODE_REGION);
        heft_tree_count_alloc(tree, made[i].node, 10 + i);
    }
    assert_int_equal(tree->node_n, 2 + 2 + N);
    assert_int_equal(tree->header->flags, 0);
    assert_int_equal(tree->header->cut_events, 0);
    assert_true(heft_tree_check(tree));
    read_back(&reader, w->path);
    for (uint32_t i = 0; i < N; i++) {
        heft_text_t name = heft_reader_string(&reader, reader.details[made[i].node].what);
        assert_int_equal(name.len, strlen(made[i].name));
        assert_memory_equal(name.ptr, made[i].name, name.len);
        assert_int_equal(heft_reader_amount(&reader, made[i].node, HEFT_MOMENT_TOTAL, 0).bytes, 10 + i);
    }
    heft_reader_close(&reader);
}

/* Stacks begin anew in a region: what called it from outside is no recursion, what is called inside may be. */
static void test_stacks_in_regions(void **state)
{
    writer_t *w = *state;
    heft_tree_t *tree = &w->tree;
    uint32_t f = add_code(tree, 0x1000, 1, "f");
    uint32_t f10 = plain_child(tree, w->thread, f, 0x1000, 10), a = heft_tree_region(tree, w->thread, str("a"));
    uint32_t inner = heft_tree_region(tree, a, str("b"));
    uint32_t a10 = plain_child(tree, a, f, 0x1000, 10), inner10 = plain_child(tree, inner, f, 0x1000, 10);
    assert_true(a10 != f10 && inner10 != f10 && inner10 != a10);
    assert_int_equal(tree->nodes[a10].parent, a);
    assert_int_equal(tree->nodes[inner10].parent, inner);
    assert_int_equal(tree->header->folded_nodes, 0);
    uint32_t a20 = plain_child(tree, a10, f, 0x1000, 20);
    assert_int_equal(tree->nodes[a20].parent, a10);
    assert_int_equal(plain_child(tree, a20, f, 0x1000, 10), a10);
    assert_int_equal(tree->header->folded_nodes, 1);
    assert_true(tree->details[a10].flags & HEFT_DETAIL_RECURSIVE);
    assert_false(tree->details[f10].flags & HEFT_DETAIL_RECURSIVE);
    fill_tree(w, HEFT_TREE_FOLD_CODE); /* folded by function: beside the outermost activation in the region */
    uint32_t a30 = plain_child(tree, a20, f, 0x1000, 30);
    assert_int_equal(tree->nodes[a30].parent, a);
    assert_true(heft_tree_check(tree));
}

/* A thread may import a module (its first frame in it) and enter a region of one name: in either order. */
static void test_a_region_is_no_import(void **state)
{
    writer_t *w = *state;
    heft_tree_t *tree = &w->tree;
    uint32_t importer = add_code(tree, 0x3000, 3, "_find_and_load");
    heft_frame_info_t info = {.code = importer, .machinery = true, .import_switch = true};
    uint32_t region = heft_tree_region(tree, w->thread, str("os"));
    uint32_t import = child(tree, w->thread, 0x3000, &info, "os"), other = child(tree, w->thread, 0x3000, &info, "re");
    uint32_t later = heft_tree_region(tree, w->thread, str("re")), unnamed = child(tree, w->thread, 0x3000, &info, "");
    uint32_t empty = heft_tree_region(tree, w->thread, str(""));
    assert_int_equal(tree->details[region].what, tree->details[import].what);
    assert_true(region != import && later != other && unnamed != empty);
    for (int again = 0; again < 2; again++) {
        assert_int_equal(heft_tree_region(tree, w->thread, str("os")), region);
        assert_int_equal(heft_tree_region(tree, w->thread, str("re")), later);
        assert_int_equal(heft_tree_region(tree, w->thread, str("")), empty);
        assert_int_equal(child(tree, w->thread, 0x3000, &info, "os"), import);
        assert_int_equal(child(tree, w->thread, 0x3000, &info, "re"), other);
        assert_int_equal(child(tree, w->thread, 0x3000, &info, ""), unnamed);
    }
    assert_int_equal(tree->details[import].kind, HEFT_NODE_IMPORT);
    assert_int_equal(tree->details[later].kind, HEFT_NODE_REGION);
    assert_true(heft_tree_check(tree));
}

static void test_very_many_regions(void **state)
{
    writer_t *w = *state;
    heft_tree_t *tree = &w->tree;
    uint32_t second = heft_tree_thread(tree, 4712, 0), numbers[HEFT_REGIONS_MAX];
    char name[16];
    numbers[0] = heft_tree_region(tree, w->thread, str("")); /* what is not known has no name either */
    for (uint32_t i = 1; i < HEFT_REGIONS_MAX; i++) {
        snprintf(name, sizeof name, "%u", i);
        uint32_t base = i % 3 == 0 ? w->thread : i % 3 == 1 ? second : numbers[i / 2];
        numbers[i] = heft_tree_region(tree, base, str(name));
        assert_int_equal(tree->nodes[numbers[i]].parent, base);
    }
    assert_int_equal(tree->header->flags, 0);
    uint32_t node_n = tree->node_n, string_bytes = tree->header->string_bytes;
    assert_int_equal(heft_tree_region(tree, w->thread, str("3")), numbers[3]);
    assert_int_equal(tree->header->flags, 0); /* known ones have lost nothing */
    static const char *const late[] = {"late", "later", "3"};
    const uint32_t bases[] = {w->thread, second, numbers[1], numbers[HEFT_REGIONS_MAX - 1]};
    for (uint32_t i = 0; i < 3; i++) { /* "3" is known, but not there */
        for (uint32_t k = i == 2 ? 1 : 0; k < 4; k++) {
            tree->header->flags = 0;
            assert_int_equal(heft_tree_region(tree, bases[k], str(late[i])), bases[k]);
            assert_int_equal(tree->header->flags, HEFT_FLAG_REGIONS_CUT);
        }
    }
    assert_int_equal(heft_strings_find(&tree->strings, str("late")), 0);
    assert_int_equal(tree->header->string_bytes, string_bytes);
    assert_int_equal(tree->node_n, node_n);
    assert_int_equal(tree->region_n, HEFT_REGIONS_MAX);
    assert_int_equal(tree->header->cut_events, 0); /* no line has lost its callers */
    for (uint32_t i = 1; i < HEFT_REGIONS_MAX; i++) {
        snprintf(name, sizeof name, "%u", i);
        assert_int_equal(heft_tree_region(tree, tree->nodes[numbers[i]].parent, str(name)), numbers[i]);
    }
    uint32_t f = add_code(tree, 0x1000, 1, "f"); /* lines have room as before */
    assert_int_equal(tree->nodes[plain_child(tree, numbers[7], f, 0x1000, 10)].parent, numbers[7]);
    assert_true(heft_tree_check(tree));
}

/* ---- code that dies ------------------------------------------------------------------------------------------ */

static void test_dead_code_is_never_mistaken_for_its_successor(void **state)
{
    heft_tree_t *tree = &((writer_t *)*state)->tree;
    uint32_t root = ((writer_t *)*state)->thread;
    uint32_t f = add_code(tree, 0x1000, 1, "f");
    uint32_t f10 = plain_child(tree, root, f, 0x1000, 10);
    heft_tree_retire_code(tree, 0x1000);
    assert_int_equal(heft_tree_find_code(tree, 0x1000), 0);
    assert_int_equal(heft_tree_find(tree, root, base_of(0x1000) + 10), 0);
    /* another text at the same address */
    uint32_t g = add_code(tree, 0x1000, 2, "f");
    assert_int_not_equal(g, f);
    uint32_t g10 = plain_child(tree, root, g, 0x1000, 10);
    assert_int_not_equal(g10, f10);
    /* the same text at another address takes over */
    assert_int_equal(add_code(tree, 0x5000, 1, "f"), f);
    assert_int_equal(plain_child(tree, root, f, 0x5000, 10), f10);
    heft_tree_retire_code(tree, 0x1000);
    heft_tree_retire_code(tree, 0x5000);
    heft_tree_retire_code(tree, 0x9000); /* never seen: nothing */
    assert_true(heft_tree_check(tree));
}

/* Whatever distinguishes two texts, neither becomes the other. */
static void test_text_is_all_that_is_known_of_it(void **state)
{
    heft_tree_t *tree = &((writer_t *)*state)->tree;
    const heft_code_info_t like = code_info(0x1000, 1, "f");
    heft_code_info_t other[4] = {like, like, like, like};
    other[0].key = 2;
    other[1].name = str("g");
    other[2].file = str("b.py");
    other[3].first_line = 2;
    uint32_t first = heft_tree_add_code(tree, &like), numbers[4];
    heft_tree_retire_code(tree, 0x1000);
    for (uint32_t i = 0; i < 4; i++) {
        numbers[i] = heft_tree_add_code(tree, &other[i]);
        assert_int_equal(numbers[i], first + 1 + i);
        heft_tree_retire_code(tree, 0x1000);
    }
    for (uint32_t i = 0; i < 4; i++) { /* all at once, at other addresses */
        other[i].address = 0x10000 + i * 0x1000;
        assert_int_equal(heft_tree_add_code(tree, &other[i]), numbers[i]);
        assert_int_equal(heft_tree_find_code(tree, other[i].address), numbers[i]);
    }
    assert_int_equal(heft_tree_add_code(tree, &like), first);
    assert_int_equal(tree->header->code_n, first + 5);
}

/* Generated functions of one shape have one key: looking one up among its dead likes must not become a long search. */
static void test_dead_codes_of_equal_key_do_not_pile_up(void **state)
{
    heft_tree_t *tree = &((writer_t *)*state)->tree;
    enum { N = 2000 };
    char name[32];
    for (uint32_t i = 0; i < N; i++) {
        snprintf(name, sizeof name, "f%u", i);
        add_code(tree, 0x1000, 1, name);
        heft_tree_retire_code(tree, 0x1000);
    }
    uint32_t longest = 0, n = 0;
    for (uint32_t b = 0; b < HEFT_TREE_CODE_INDEX; b++) {
        uint32_t length = 0;
        for (uint32_t i = tree->dead_index[b]; i != 0; i = tree->codes[i].next_dead)
            length++;
        longest = length > longest ? length : longest;
        n += length;
    }
    assert_int_equal(n, N);
    assert_in_range(longest, 1, 20);
}

static void test_memos_of_a_dead_code_are_forgotten(void **state)
{
    heft_tree_t *tree = &((writer_t *)*state)->tree;
    uint32_t root = ((writer_t *)*state)->thread;
    add_code(tree, 0x1000, 1, "f");
    add_code(tree, 0x2000, 2, "g");
    for (uint32_t i = 0; i < HEFT_TREE_MEMOS; i++) { /* as if from everywhere */
        uint64_t address = i % 2 ? 0x1000 : 0x2000;
        uint32_t instr = i % 31 == 0 ? (uint32_t)-2 : 2 * (i % (CODE_BYTES / 2));
        heft_tree_remember(tree, root + i, ip_of(address, instr), 1 + i);
        *heft_tree_place(tree, (void *)(uintptr_t)(0x7000 + 16 * i)) =
            (heft_memo_t){ip_of(address, instr), root + i, 1 + i};
    }
    uint32_t left = 0;
    heft_tree_retire_code(tree, 0x1000);
    for (uint32_t i = 0; i < HEFT_TREE_MEMOS + HEFT_TREE_PLACES; i++) {
        const heft_memo_t *memo = &tree->memos[i];
        bool is_of_f = memo->ip >= ip_of(0x1000, (uint32_t)-2) && memo->ip < base_of(0x1000) + CODE_BYTES;
        assert_false(is_of_f);
        left += memo->ip != 0;
    }
    assert_true(left > HEFT_TREE_PLACES / 4); /* the other's are still there */
}

static void test_a_loop_over_exec_does_not_grow_the_tree(void **state)
{
    heft_tree_t *tree = &((writer_t *)*state)->tree;
    uint32_t root = ((writer_t *)*state)->thread, after_first = 0;
    for (uint32_t i = 0; i < (HAS_SLOW_CHECKS ? 500 : 20000); i++) {
        uint64_t address = 0x1000 + (uint64_t)(i % 7) * 0x1000;
        uint32_t code = add_code(tree, address, 1, "<module>");
        heft_frame_info_t early = {.code = code, .instr = (uint32_t)-2, .incomplete = true};
        assert_int_equal(child(tree, root, address, &early, ""), root);
        heft_tree_count_alloc(tree, plain_child(tree, root, code, address, 10), 16);
        heft_tree_retire_code(tree, address);
        if (i == 0)
            after_first = tree->node_n;
    }
    assert_int_equal(tree->node_n, after_first);
    assert_int_equal(tree->header->code_n, 2);
    assert_true(heft_tree_check(tree));
}

/* ---- anything, against a model of all paths ------------------------------------------------------------------ */

#define TEXTS 12u
#define PLACES 8u /* where code objects live and die */
#define NAMES 6u
#define INSTRS 7u
#define LIVE 3000u

typedef enum { PLAIN, EARLY, MACHINERY, SWITCH } what_t;

/* What the model knows of a node. */
typedef struct {
    uint32_t parent, code, instr;
    bool is_end;     /* a thread, a region, an import, the root: where the search for recursion ends */
    bool is_base;    /* a thread or a region: where stacks begin */
    uint32_t region; /* its name's number and one */
    int64_t bytes, blocks;
} known_t;

typedef struct {
    writer_t w;
    uint64_t random;
    known_t *nodes; /* by number; those that were an answer */
    uint32_t room;
    heft_map_t map;          /* (parent, code, instruction), (parent, module) or (parent, region) -> node */
    uint32_t places[PLACES]; /* code number, 0 = free */
    uint32_t text_of[256];   /* by code number */
    bool is_dead[256];
    uint32_t code_n;
    uint32_t *answers; /* nodes to go on from */
    uint32_t answer_n;
    struct {
        uint32_t node, bytes;
    } live[LIVE];
    uint32_t live_n;
    int64_t live_bytes;
} model_t;

static const char *const names[NAMES] = {"os", "os.path", "a", "b", "", "module.of.a.longer.name"};

static uint64_t place_address(uint32_t place)
{
    return 0x10000 + (uint64_t)place * 0x1000;
}

static what_t what_is(uint32_t text, uint32_t instr)
{
    if (text >= TEXTS - 3)
        return text == TEXTS - 1 ? SWITCH : MACHINERY;
    return instr == (uint32_t)-2 || (instr == 0 && text % 2) ? EARLY : PLAIN;
}

static uint64_t frame_key(uint32_t parent, uint32_t code, uint32_t instr)
{
    return heft_map_pair(parent, code << 16 | (instr & 0xFFFF));
}

static uint32_t get(const model_t *m, uint32_t parent, uint32_t code, uint32_t instr)
{
    return heft_map_get(&m->map, frame_key(parent, code, instr), 0);
}

/* The node that must answer for an instruction under `parent`; 0: a new one, whose parent is then *new_parent. */
static uint32_t expect(const model_t *m, uint32_t parent, uint32_t code, uint32_t instr, uint32_t *new_parent)
{
    uint32_t known = get(m, parent, code, instr), outermost = 0, n = parent;
    *new_parent = parent;
    if (known != 0)
        return known;
    for (; !m->nodes[n].is_end; n = m->nodes[n].parent) {
        if (m->nodes[n].code == code && m->nodes[n].instr == instr)
            return n;
        if (m->nodes[n].code == code)
            outermost = n;
    }
    if (m->w.tree.node_n >= HEFT_TREE_FOLD_CODE && outermost != 0) {
        *new_parent = m->nodes[outermost].parent;
        known = get(m, *new_parent, code, instr);
        if (known != 0)
            return known;
    }
    if (m->w.tree.node_n >= HEFT_TREE_FLAT) {
        while (!m->nodes[*new_parent].is_base)
            *new_parent = m->nodes[*new_parent].parent;
        return get(m, *new_parent, code, instr);
    }
    return 0;
}

static void learn(model_t *m, uint32_t node, uint64_t key, known_t known)
{
    bool is_new;
    assert_true(node < m->room);
    *heft_map_put(&m->map, key, &is_new) = node;
    assert_true(is_new);
    m->nodes[node] = known;
    m->answers[m->answer_n++] = node;
}

static uint32_t ask_for_import(model_t *m, uint32_t parent, uint64_t address, const heft_frame_info_t *frame)
{
    uint32_t name = random_below(&m->random, NAMES), node = child(&m->w.tree, parent, address, frame, names[name]);
    uint64_t key = heft_map_pair(parent, 0xFFFF0000u | name);
    uint32_t known = heft_map_get(&m->map, key, 0);
    if (known != 0) {
        assert_int_equal(node, known);
        return node;
    }
    assert_int_equal(node, m->w.tree.node_n - 1);
    assert_int_equal(m->w.tree.nodes[node].parent, parent);
    assert_int_equal(m->w.tree.details[node].kind, HEFT_NODE_IMPORT);
    learn(m, node, key, (known_t){.parent = parent, .is_end = true});
    return node;
}

static uint32_t ask_for_region(model_t *m)
{
    uint32_t base = m->answers[random_below(&m->random, m->answer_n)], name = random_below(&m->random, NAMES);
    while (!m->nodes[base].is_base)
        base = m->nodes[base].parent;
    uint32_t before = m->w.tree.node_n, node = heft_tree_region(&m->w.tree, base, str(names[name]));
    uint64_t key = heft_map_pair(base, 0xFFFF8000u | name);
    uint32_t known = m->nodes[base].region == name + 1 ? base : heft_map_get(&m->map, key, 0);
    if (known != 0) {
        assert_int_equal(node, known);
        return node;
    }
    assert_int_equal(node, before);
    assert_int_equal(m->w.tree.nodes[node].parent, base);
    assert_int_equal(m->w.tree.details[node].kind, HEFT_NODE_REGION);
    learn(m, node, key, (known_t){.parent = base, .is_end = true, .is_base = true, .region = name + 1});
    return node;
}

static uint32_t ask_for_frame(model_t *m, uint32_t parent, uint64_t address, const heft_frame_info_t *frame)
{
    uint32_t new_parent, expected = expect(m, parent, frame->code, frame->instr, &new_parent);
    uint32_t before = m->w.tree.node_n, node = child(&m->w.tree, parent, address, frame, "");
    if (expected != 0) {
        assert_int_equal(node, expected);
        return node;
    }
    const heft_detail_t *detail = &m->w.tree.details[node];
    assert_true(node >= before);
    assert_int_equal(m->w.tree.nodes[node].parent, new_parent);
    assert_int_equal(detail->kind, HEFT_NODE_FRAME);
    assert_int_equal(detail->what, frame->code);
    assert_int_equal(detail->instr, frame->instr);
    assert_int_equal(detail->line, frame->line);
    assert_int_equal(detail->column, frame->column);
    learn(m, node, frame_key(new_parent, frame->code, frame->instr),
          (known_t){.parent = new_parent, .code = frame->code, .instr = frame->instr});
    return node;
}

static void put_code(model_t *m, uint32_t place)
{
    heft_tree_t *tree = &m->w.tree;
    uint32_t text = random_below(&m->random, TEXTS), same = 0;
    char name[16];
    snprintf(name, sizeof name, "text%u", text / 2); /* some differ in nothing but the key */
    assert_int_equal(heft_tree_find_code(tree, place_address(place)), 0);
    heft_code_info_t info = code_info(place_address(place), text, name);
    uint32_t number = heft_tree_add_code(tree, &info);
    for (uint32_t i = 1; i < m->code_n; i++)
        same += m->is_dead[i] && m->text_of[i] == text;
    if (same == 0) {
        assert_int_equal(number, m->code_n);
        m->code_n++;
    } else { /* equal text comes back as itself */
        assert_true(number < m->code_n && m->is_dead[number] && m->text_of[number] == text);
    }
    assert_int_equal(tree->header->code_n, m->code_n);
    m->text_of[number] = text;
    m->is_dead[number] = false;
    m->places[place] = number;
    assert_int_equal(heft_tree_find_code(tree, place_address(place)), number);
}

static void kill_code(model_t *m, uint32_t place)
{
    heft_tree_retire_code(&m->w.tree, place_address(place));
    assert_int_equal(heft_tree_find_code(&m->w.tree, place_address(place)), 0);
    if (m->places[place] != 0)
        m->is_dead[m->places[place]] = true;
    m->places[place] = 0;
    for (uint32_t k = 0; k < 20; k++) { /* from wherever: it is no longer known */
        uint32_t parent = m->answers[random_below(&m->random, m->answer_n)], unused = 0;
        uint64_t ip = ip_of(place_address(place), 4 * random_below(&m->random, INSTRS));
        assert_int_equal(heft_tree_find(&m->w.tree, parent, ip), 0);
        assert_int_equal(heft_tree_probe(&m->w.tree, parent, ip, &unused), 0);
        assert_int_equal(unused, 0);
        assert_false(heft_tree_is_machinery(&m->w.tree, ip));
    }
}

static void count(model_t *m, uint32_t node)
{
    heft_tree_t *tree = &m->w.tree;
    if (m->live_n < LIVE && random_below(&m->random, 5) != 0) {
        uint32_t bytes = random_below(&m->random, 1000);
        heft_tree_count_alloc(tree, node, bytes);
        m->nodes[node].bytes += bytes;
        m->nodes[node].blocks++;
        m->live_bytes += bytes;
        m->live[m->live_n].node = node;
        m->live[m->live_n++].bytes = bytes;
    } else if (m->live_n > 0) {
        uint32_t i = random_below(&m->random, m->live_n);
        heft_tree_count_free(tree, m->live[i].node, m->live[i].bytes);
        m->nodes[m->live[i].node].bytes -= m->live[i].bytes;
        m->nodes[m->live[i].node].blocks--;
        m->live_bytes -= m->live[i].bytes;
        m->live[i] = m->live[--m->live_n];
    }
}

static void step(model_t *m)
{
    uint32_t place = random_below(&m->random, PLACES), code = m->places[place];
    if (random_below(&m->random, 300) == 0) {
        kill_code(m, place);
        return;
    }
    if (code == 0) {
        put_code(m, place);
        return;
    }
    if (random_below(&m->random, 40) == 0) {
        count(m, ask_for_region(m));
        return;
    }
    /* on from a recent answer, so that paths get long, or from any */
    uint32_t range = random_below(&m->random, 4) == 0 || m->answer_n < 5 ? m->answer_n : 5;
    uint32_t parent = m->answers[m->answer_n - 1 - random_below(&m->random, range)];
    uint32_t instr = random_below(&m->random, 9) == 0 ? (uint32_t)-2 : 4 * random_below(&m->random, INSTRS);
    what_t what = what_is(m->text_of[code], instr);
    heft_frame_info_t frame = {
        .code = code,
        .instr = instr,
        .line = 1 + instr / 4 % 1000,
        .column = (uint16_t)(1 + instr % 65535),
        .incomplete = what == EARLY,
        .machinery = what == MACHINERY || what == SWITCH,
        .import_switch = what == SWITCH,
    };
    uint64_t address = place_address(place);
    uint32_t node;
    if (what == SWITCH)
        node = ask_for_import(m, parent, address, &frame);
    else if (what == PLAIN)
        node = ask_for_frame(m, parent, address, &frame);
    else
        assert_int_equal(node = child(&m->w.tree, parent, address, &frame, ""), parent);
    count(m, node);
}

static void compare_counts(const model_t *m)
{
    heft_reader_t reader;
    read_back(&reader, m->w.path);
    for (uint32_t i = 0; i < m->answer_n; i++) {
        uint32_t node = m->answers[i];
        heft_amount_t amount = heft_reader_amount(&reader, node, HEFT_MOMENT_LIVE, 0);
        assert_int_equal(amount.bytes, m->nodes[node].bytes);
        assert_int_equal(amount.blocks, m->nodes[node].blocks);
    }
    assert_int_equal(reader.live.bytes, m->live_bytes);
    assert_int_equal(reader.live.blocks, m->live_n);
    heft_reader_close(&reader);
}

/* `before` steps in a small tree, then it is filled up, then `steps` more. */
static void run_model(uint64_t seed, uint32_t before, uint32_t filled, uint32_t steps)
{
    model_t *m = calloc(1, sizeof *m);
    assert_non_null(m);
    m->random = seed;
    m->room = 16 + filled + 3 * (before + steps);
    m->nodes = calloc(m->room, sizeof *m->nodes);
    m->answers = calloc(before + steps + 16, sizeof *m->answers);
    assert_true(m->nodes != NULL && m->answers != NULL);
    writer_init(&m->w);
    fill_tree(&m->w, 0); /* its code object comes first */
    m->code_n = m->w.tree.header->code_n;
    m->nodes[m->w.thread].is_end = m->nodes[m->w.thread].is_base = true;
    m->answers[m->answer_n++] = m->w.thread;
    uint32_t second = heft_tree_thread(&m->w.tree, 4712, 0);
    m->nodes[second].is_end = m->nodes[second].is_base = true;
    m->answers[m->answer_n++] = second;
    for (uint32_t i = 0; i < before; i++)
        step(m);
    fill_tree(&m->w, filled);
    for (uint32_t i = 0; i < steps; i++) {
        step(m);
        if (i % (steps / 10) == 0)
            assert_true(heft_tree_check(&m->w.tree));
    }
    assert_true(heft_tree_check(&m->w.tree));
    assert_int_equal(m->w.tree.live_bytes, m->live_bytes);
    assert_int_equal(m->w.tree.header->cut_events, 0);
    assert_int_equal((m->w.tree.header->flags & HEFT_FLAG_PATHS_CUT) != 0, m->w.tree.node_n >= HEFT_TREE_FLAT);
    assert_int_equal(m->w.tree.header->flags & HEFT_FLAG_REGIONS_CUT, 0);
    compare_counts(m);
    heft_ledger_seal(&m->w.ledger);
    compare_counts(m);
    writer_done(&m->w);
    heft_map_done(&m->map);
    free(m->nodes);
    free(m->answers);
    free(m);
}

static void test_a_tree_against_a_model(void **state)
{
    (void)state;
    uint32_t steps = HAS_SLOW_CHECKS ? 4000 : 30000;
    for (uint64_t seed = 1; seed <= (is_exhaustive() ? 200 : 10); seed++)
        run_model(seed, 0, 0, steps);
}

static void test_a_large_tree_against_a_model(void **state)
{
    (void)state;
    uint32_t before = HAS_SLOW_CHECKS ? 800 : 3000, steps = HAS_SLOW_CHECKS ? 70 : 30000;
    for (uint64_t seed = 1; seed <= (is_exhaustive() ? 100 : 2); seed++)
        run_model(seed, before, HEFT_TREE_FOLD_CODE - (seed == 1 ? 50 : 0), steps); /* it gets large on the way */
}

static void test_a_flat_tree_against_a_model(void **state)
{
    (void)state;
    uint32_t before = HAS_SLOW_CHECKS ? 800 : 3000, steps = HAS_SLOW_CHECKS ? 50 : 30000;
    for (uint64_t seed = 1; seed <= (is_exhaustive() ? 30 : 1); seed++)
        run_model(seed, before, HEFT_TREE_FLAT - 30, steps);
}

static void test_mutual_recursion_stays_bounded(void **state)
{
    heft_tree_t *tree = &((writer_t *)*state)->tree;
    uint32_t root = ((writer_t *)*state)->thread, codes[12];
    uint64_t random = 5;
    uint32_t walks = HAS_SLOW_CHECKS ? 3 : 6000;
    for (uint32_t i = 0; i < 12; i++)
        codes[i] = add_code(tree, 0x10000 + i * 0x1000, i, "f");
    if (HAS_SLOW_CHECKS)
        fill_tree(*state, HEFT_TREE_FOLD_CODE);
    for (uint32_t walk = 0; walk < walks; walk++) {
        uint32_t node = root;
        for (int depth = 0; depth < 60; depth++) {
            uint32_t i = random_below(&random, 12);
            node = plain_child(tree, node, codes[i], 0x10000 + i * 0x1000, 2 * random_below(&random, 4));
        }
        heft_tree_count_alloc(tree, node, 10);
    }
    assert_true(tree->node_n <= HEFT_TREE_FLAT + 1000);
    assert_int_equal(tree->live_bytes, walks * 10);
    assert_int_equal(tree->header->cut_events, 0);
    assert_true(heft_tree_check(tree));
}

/* Two functions that call each other have few paths, once the tree is large. */
static void test_folding_by_function(void **state)
{
    heft_tree_t *tree = &((writer_t *)*state)->tree;
    uint32_t root = ((writer_t *)*state)->thread;
    uint32_t f = add_code(tree, 0x1000, 1, "f"), g = add_code(tree, 0x2000, 2, "g");
    uint32_t f10 = plain_child(tree, root, f, 0x1000, 10), g10 = plain_child(tree, f10, g, 0x2000, 10);
    uint32_t f20 = plain_child(tree, g10, f, 0x1000, 20);
    assert_int_equal(tree->nodes[f20].parent, g10); /* still small: another line of f is another frame */
    fill_tree(*state, HEFT_TREE_FOLD_CODE);
    uint32_t f30 = plain_child(tree, g10, f, 0x1000, 30);
    assert_int_equal(tree->nodes[f30].parent, root); /* beside the outermost activation */
    assert_true(tree->details[f30].flags & HEFT_DETAIL_RECURSIVE);
    assert_int_equal(plain_child(tree, g10, f, 0x1000, 20), f20); /* what was there stays as it is */
    assert_int_equal(plain_child(tree, root, f, 0x1000, 30), f30);
    assert_int_equal(plain_child(tree, f20, f, 0x1000, 30), f30);
    uint32_t n = tree->node_n;
    uint64_t random = 1;
    for (int walk = 0; walk < 100; walk++) {
        uint32_t node = root;
        for (int depth = 0; depth < 60; depth++) {
            bool is_f = random_below(&random, 2);
            node = plain_child(tree, node, is_f ? f : g, is_f ? 0x1000 : 0x2000, 10 + 10 * random_below(&random, 3));
        }
    }
    assert_true(tree->node_n <= n + 3 + 3 + 2 * 3 * 3 + 10); /* f, g, f under g, g under f, and what was odd before */
    assert_true(heft_tree_check(tree));
}

static void test_a_flat_tree_keeps_the_innermost_line(void **state)
{
    writer_t *w = *state;
    heft_tree_t *tree = &w->tree;
    uint32_t f = add_code(tree, 0x1000, 1, "f"), g = add_code(tree, 0x2000, 2, "g");
    uint32_t f10 = plain_child(tree, w->thread, f, 0x1000, 10), second = heft_tree_thread(tree, 4712, 0);
    fill_tree(w, HEFT_TREE_FLAT);
    assert_int_equal(tree->header->flags & HEFT_FLAG_PATHS_CUT, 0);
    uint32_t g10 = plain_child(tree, f10, g, 0x2000, 10);
    assert_int_equal(tree->nodes[g10].parent, w->thread);
    assert_int_equal(tree->details[g10].line, 6);
    assert_int_equal(tree->details[g10].flags, HEFT_DETAIL_FLAT);
    assert_true(tree->header->flags & HEFT_FLAG_PATHS_CUT);
    assert_int_equal(plain_child(tree, f10, g, 0x2000, 10), g10);
    assert_int_equal(plain_child(tree, w->thread, g, 0x2000, 10), g10);
    assert_int_equal(plain_child(tree, w->thread, f, 0x1000, 10), f10); /* known paths are as before */
    uint32_t other = plain_child(tree, second, g, 0x2000, 10);
    assert_int_equal(tree->nodes[other].parent, second); /* whose it is, is kept as well */
    assert_int_equal(tree->details[other].flags, 0);
    heft_frame_info_t early = {.code = g, .instr = 2, .incomplete = true};
    assert_int_equal(child(tree, f10, 0x2000, &early, ""), f10);
    assert_int_equal(tree->header->cut_events, 0);
    assert_true(heft_tree_check(tree));
}

static void test_a_flat_tree_keeps_the_region(void **state)
{
    writer_t *w = *state;
    heft_tree_t *tree = &w->tree;
    uint32_t f = add_code(tree, 0x1000, 1, "f"), g = add_code(tree, 0x2000, 2, "g");
    uint32_t outer = heft_tree_region(tree, w->thread, str("outer")), inner = heft_tree_region(tree, outer, str("in"));
    uint32_t outer10 = plain_child(tree, outer, f, 0x1000, 10), inner10 = plain_child(tree, inner, f, 0x1000, 10);
    fill_tree(w, HEFT_TREE_FLAT);
    uint32_t late = heft_tree_region(tree, outer, str("late"));
    assert_int_equal(tree->nodes[late].parent, outer); /* regions are few: they are kept */
    assert_int_equal(tree->header->flags, 0);
    uint32_t in_outer = plain_child(tree, outer10, g, 0x2000, 10), in_inner = plain_child(tree, inner10, g, 0x2000, 10);
    assert_int_equal(tree->nodes[in_outer].parent, outer);
    assert_int_equal(tree->nodes[in_inner].parent, inner);
    assert_int_equal(tree->details[in_outer].flags, HEFT_DETAIL_FLAT);
    assert_int_equal(tree->details[in_inner].flags, HEFT_DETAIL_FLAT);
    assert_int_equal(tree->header->flags, HEFT_FLAG_PATHS_CUT);
    assert_int_equal(plain_child(tree, outer10, g, 0x2000, 10), in_outer);
    uint32_t first = plain_child(tree, late, g, 0x2000, 10); /* not called by anything: nothing is lost */
    assert_int_equal(tree->nodes[first].parent, late);
    assert_int_equal(tree->details[first].flags, 0);
    assert_int_equal(tree->header->cut_events, 0);
    assert_true(heft_tree_check(tree));
}

/* ---- plain trees --------------------------------------------------------------------------------------------- */

/* The innermost `n` frames of two nodes are the same instructions. */
static bool end_alike(const heft_tree_t *tree, uint32_t a, uint32_t b, uint32_t n)
{
    for (; n > 0; n--, a = tree->nodes[a].parent, b = tree->nodes[b].parent) {
        if (tree->details[a].kind != tree->details[b].kind || tree->details[a].line != tree->details[b].line ||
            tree->details[a].what != tree->details[b].what)
            return false;
        if (tree->details[a].kind != HEFT_NODE_FRAME)
            return true;
    }
    return true;
}

static uint32_t depth_of(const heft_tree_t *tree, uint32_t node)
{
    uint32_t n = 0;
    for (; tree->details[node].kind == HEFT_NODE_FRAME; node = tree->nodes[node].parent)
        n++;
    return n;
}

static void test_a_plain_tree_keeps_the_innermost_frames(void **state)
{
    writer_t *w = *state;
    heft_tree_t *tree = &w->tree;
    uint32_t f = add_code(tree, 0x1000, 1, "f"), g = add_code(tree, 0x2000, 2, "g"), whole[40];
    uint64_t random = 3;
    tree->frames_kept = 3;
    uint32_t node = w->thread;
    for (uint32_t depth = 0; depth < 40; depth++) {
        node = whole[depth] = plain_child(tree, node, f, 0x1000, 10);
        assert_int_equal(depth_of(tree, node), depth + 1); /* recursion is not folded */
    }
    fill_tree(w, HEFT_TREE_FOLD_CODE);
    uint32_t cut = plain_child(tree, whole[39], g, 0x2000, 10);
    assert_int_equal(depth_of(tree, cut), 3);
    assert_int_equal(tree->nodes[tree->nodes[tree->nodes[cut].parent].parent].parent, w->thread);
    assert_int_equal(tree->nodes[cut].parent, whole[1]); /* f, f, g */
    assert_int_equal(plain_child(tree, whole[38], g, 0x2000, 10), cut);
    assert_int_equal(plain_child(tree, whole[1], g, 0x2000, 10), cut);
    assert_int_not_equal(plain_child(tree, whole[0], g, 0x2000, 10), cut); /* f, g: not longer than what is kept */
    uint32_t n = tree->node_n;
    for (int walk = 0; walk < 50; walk++) {
        uint32_t path[60];
        node = w->thread;
        for (uint32_t depth = 0; depth < 60; depth++) {
            uint32_t code = random_below(&random, 2);
            uint32_t before = node;
            node = path[depth] =
                plain_child(tree, node, code ? f : g, code ? 0x1000 : 0x2000, 10 + 10 * random_below(&random, 3));
            assert_true(depth_of(tree, node) <= 40 && depth_of(tree, node) >= (depth < 3 ? depth + 1 : 3));
            assert_true(depth_of(tree, node) > 3 || depth < 3 || end_alike(tree, tree->nodes[node].parent, before, 2));
        }
        heft_tree_count_alloc(tree, node, 1);
    }
    assert_true(tree->node_n < n + 6 * 6 * 6 * 8); /* as many answers, and as many ways to each */
    assert_int_equal(tree->header->cut_events, 0);
    assert_int_equal(tree->header->flags & HEFT_FLAG_PATHS_CUT, 0);
    fill_tree(w, HEFT_TREE_FLAT);
    uint32_t flat = plain_child(tree, whole[39], g, 0x2000, 90);
    assert_int_equal(depth_of(tree, flat), 1);
    assert_true(tree->header->flags & HEFT_FLAG_PATHS_CUT);
    assert_true(heft_tree_check(tree));
}

static uint64_t peak_of(const heft_tree_t *tree, uint32_t node)
{
    uint64_t epoch = 0;
    for (uint32_t i = 1; i < tree->node_n; i++)
        epoch = tree->nodes[i].epoch > epoch ? tree->nodes[i].epoch : epoch;
    const heft_node_t *n = &tree->nodes[node];
    return n->epoch == epoch ? tree->details[node].peak_bytes : (uint64_t)(n->allocated_bytes - n->freed_bytes);
}

static void test_the_peak_begins_again(void **state)
{
    writer_t *w = *state;
    heft_tree_t *tree = &w->tree;
    uint32_t f = add_code(tree, 0x1000, 1, "f");
    uint32_t a = plain_child(tree, w->thread, f, 0x1000, 10), b = plain_child(tree, w->thread, f, 0x1000, 20);
    heft_tree_count_alloc(tree, a, 100);
    heft_tree_count_alloc(tree, b, 50);
    heft_tree_count_free(tree, a, 100);
    assert_int_equal(tree->peak_bytes, 150);
    assert_int_equal(peak_of(tree, a), 100);
    heft_tree_reset_peak(tree); /* the peak is now */
    assert_int_equal(tree->peak_bytes, 50);
    assert_true(peak_of(tree, a) == 0 && peak_of(tree, b) == 50);
    heft_tree_count_alloc(tree, a, 30);
    heft_tree_count_free(tree, b, 50);
    assert_int_equal(tree->peak_bytes, 80);
    assert_true(peak_of(tree, a) == 30 && peak_of(tree, b) == 50);
    heft_tree_clear(tree);
    assert_true(tree->live_bytes == 0 && tree->peak_bytes == 0);
    assert_true(peak_of(tree, a) == 0 && peak_of(tree, b) == 0);
    assert_true(heft_tree_check(tree));
    heft_tree_count_alloc(tree, b, 7);
    heft_tree_count_free(tree, b, 7);
    assert_int_equal(tree->peak_bytes, 7);
    assert_true(peak_of(tree, a) == 0 && peak_of(tree, b) == 7);
    assert_true(heft_tree_check(tree));
}

/* ---- no room ------------------------------------------------------------------------------------------------- */

static void test_no_room_for_nodes(void **state)
{
    writer_t *w = *state;
    heft_tree_t *tree = &w->tree;
    uint32_t f = add_code(tree, 0x1000, 1, "f"), importer = add_code(tree, 0x3000, 3, "_find_and_load");
    uint32_t f10 = plain_child(tree, w->thread, f, 0x1000, 10), f20 = plain_child(tree, f10, f, 0x1000, 20);
    heft_tree_count_alloc(tree, f20, 1000);
    limit_file_size(w->ledger.file_bytes);
    fill_tree(w, UINT32_MAX); /* until no more fit: one of them is cut */
    uint32_t n = tree->node_n;
    assert_int_equal(n, w->ledger.columns[HEFT_COLUMN_NODE].mapped / sizeof(heft_node_t));
    assert_int_equal(tree->header->flags, HEFT_FLAG_DISK_FULL);
    assert_int_equal(tree->header->cut_events, 1);
    assert_true(tree->details[w->thread].flags & HEFT_DETAIL_CUT);
    assert_false(tree->details[f20].flags & HEFT_DETAIL_CUT);
    /* a new path: its caller answers, each time */
    assert_int_equal(plain_child(tree, f20, f, 0x1000, 30), f20);
    assert_int_equal(plain_child(tree, f20, f, 0x1000, 30), f20);
    assert_int_equal(tree->header->cut_events, 3);
    assert_true(tree->details[f20].flags & HEFT_DETAIL_CUT);
    /* what needs no node of its own is right all the same */
    assert_int_equal(plain_child(tree, f20, f, 0x1000, 10), f10);
    heft_frame_info_t early = {.code = f, .instr = 2, .incomplete = true},
                      machinery = {.code = importer, .instr = 8, .machinery = true},
                      import = {.code = importer, .instr = 4, .machinery = true, .import_switch = true};
    assert_int_equal(child(tree, f20, 0x1000, &early, ""), f20);
    assert_int_equal(child(tree, f20, 0x3000, &machinery, ""), f20);
    assert_int_equal(tree->header->cut_events, 3);
    assert_int_equal(child(tree, f20, 0x3000, &import, "m"), f20);
    assert_int_equal(tree->header->cut_events, 4);
    assert_int_equal(heft_tree_thread(tree, 4713, 0), 0);
    assert_int_equal(tree->header->thread_n, 1);
    assert_int_equal(tree->node_n, n);
    heft_tree_count_alloc(tree, f20, 5);
    heft_tree_retire_code(tree, 0x1000);
    assert_int_equal(add_code(tree, 0x8000, 1, "f"), f);
    assert_int_equal(plain_child(tree, w->thread, f, 0x8000, 10), f10);
    assert_true(heft_tree_check(tree));
    heft_reader_t reader;
    read_back(&reader, w->path);
    assert_int_equal(reader.live.bytes, 1005);
    heft_reader_close(&reader);
    /* there is room again: it is noticed after a while */
    limit_file_size((uint64_t)RLIM_INFINITY);
    uint32_t f30 = f20, tries = 0;
    while (f30 == f20 && tries++ < 10000)
        f30 = plain_child(tree, f20, f, 0x8000, 30);
    assert_true(f30 >= n);
    assert_int_equal(tree->nodes[f30].parent, f20);
    assert_true(heft_tree_check(tree));
}

/* Under an address space limit a column is full long before the disk is. */
static void test_a_column_is_full(void **state)
{
    writer_t *w = *state;
    heft_tree_t *tree = &w->tree;
    uint32_t max = HEFT_NODES_MAX / 16, f = add_code(tree, 0x1000, 1, "f");
    uint32_t f10 = plain_child(tree, w->thread, f, 0x1000, 10);
    fill_tree(w, UINT32_MAX);
    assert_int_equal(tree->node_n, max);
    assert_int_equal(tree->header->cut_events, 1);
    assert_int_equal(tree->header->flags, 0);
    assert_int_equal(plain_child(tree, f10, f, 0x1000, 20), f10);
    assert_int_equal(heft_tree_region(tree, w->thread, str("a")), w->thread);
    assert_int_equal(tree->header->flags, HEFT_FLAG_REGIONS_CUT);
    assert_true(heft_tree_check(tree));
}

static void test_no_room_for_regions(void **state)
{
    writer_t *w = *state;
    heft_tree_t *tree = &w->tree;
    uint32_t f = add_code(tree, 0x1000, 1, "f"), a = heft_tree_region(tree, w->thread, str("a"));
    uint32_t a10 = plain_child(tree, a, f, 0x1000, 10);
    limit_file_size(w->ledger.file_bytes);
    fill_tree(w, UINT32_MAX);
    uint32_t n = tree->node_n, cut_events = tree->header->cut_events;
    assert_int_equal(heft_tree_region(tree, w->thread, str("a")), a);
    assert_int_equal(tree->header->flags, HEFT_FLAG_DISK_FULL);
    assert_int_equal(heft_tree_region(tree, w->thread, str("b")), w->thread);
    assert_int_equal(heft_tree_region(tree, a, str("a")), a);
    assert_int_equal(tree->header->flags, HEFT_FLAG_DISK_FULL | HEFT_FLAG_REGIONS_CUT);
    assert_int_equal(tree->header->cut_events, cut_events);
    assert_int_equal(tree->node_n, n);
    assert_int_equal(tree->region_n, 1);
    /* a line in a region: its caller answers, at last the region */
    assert_int_equal(plain_child(tree, a10, f, 0x1000, 20), a10);
    assert_int_equal(plain_child(tree, a, f, 0x1000, 20), a);
    assert_true(tree->details[a].flags & HEFT_DETAIL_CUT);
    assert_int_equal(tree->header->cut_events, cut_events + 2);
    assert_true(heft_tree_check(tree));
    limit_file_size((uint64_t)RLIM_INFINITY);
    uint32_t b = w->thread, tries = 0;
    while (b == w->thread && tries++ < 10000)
        b = heft_tree_region(tree, w->thread, str("b"));
    assert_true(b >= n);
    assert_int_equal(tree->details[b].kind, HEFT_NODE_REGION);
    assert_true(heft_tree_check(tree));
}

/* A region whose name finds no room is not one without a name, nor another's whose name found none. */
static void test_no_room_for_names_of_regions(void **state)
{
    writer_t *w = *state;
    heft_tree_t *tree = &w->tree;
    uint32_t a = heft_tree_region(tree, w->thread, str("a")), n = 0;
    while (heft_strings_put(&tree->strings, (heft_str_t){(const char *)&n, sizeof n}) != 0)
        n++;
    uint32_t node_n = tree->node_n;
    assert_int_equal(heft_tree_region(tree, w->thread, str("b")), w->thread);
    assert_int_equal(heft_tree_region(tree, a, str("c")), a);
    assert_int_equal(tree->node_n, node_n);
    assert_int_equal(tree->header->flags, HEFT_FLAG_REGIONS_CUT);
    uint32_t empty = heft_tree_region(tree, w->thread, str("")); /* its name needs none */
    assert_int_equal(empty, node_n);
    assert_int_equal(heft_tree_region(tree, w->thread, str("b")), w->thread);
    assert_int_equal(heft_tree_region(tree, w->thread, str("a")), a);
    assert_true(heft_tree_check(tree));
}

static void test_no_room_for_code_threads_temporaries(void **state)
{
    writer_t *w = *state;
    heft_tree_t *tree = &w->tree;
    uint32_t max = HEFT_CODES_MAX / 16;
    fill_tree(w, HEFT_TEMPS_MAX / 16 + 1000);  /* and one code */
    for (uint32_t n = 2; n < max + 100; n++) { /* more than there are bucket heads in the index */
        uint32_t code = add_code(tree, 0x10000 + n * 0x1000, n, "f");
        assert_int_equal(code, n < max ? n : 0);
    }
    assert_int_equal(tree->header->code_n, max);
    for (uint32_t i = 2; i < max + 100; i += 7)
        assert_int_equal(heft_tree_find_code(tree, 0x10000 + i * 0x1000), i < max ? i : 0);
    assert_int_equal(plain_child(tree, w->thread, 0, 0x10000 + max * 0x1000, 10), w->thread);
    assert_int_equal(tree->header->cut_events, 1);
    heft_tree_retire_code(tree, 0x10000 + max * 0x1000); /* one without a number */
    heft_tree_retire_code(tree, 0x10000 + 5 * 0x1000);
    assert_int_equal(add_code(tree, 0x1000, 5, "f"), 5); /* revived ones need no room */
    assert_true(heft_tree_check(tree));

    uint32_t thread_n = tree->header->thread_n, node_n = tree->node_n;
    while (heft_tree_thread(tree, 5000 + thread_n, 0) != 0)
        thread_n++;
    assert_int_equal(thread_n, tree->header->thread_n);
    assert_int_equal(thread_n, HEFT_FORMAT_PAGE / sizeof(heft_thread_t));
    assert_int_equal(tree->node_n, node_n + thread_n - 1); /* a thread without a record has no node either */
    const heft_thread_t *threads = heft_ledger_threads(&w->ledger);
    for (uint32_t i = 1; i < thread_n; i++) {
        assert_int_equal(threads[i].native_id, 5000 + i);
        assert_int_equal(tree->details[threads[i].node].what, i);
    }

    for (uint32_t i = 2; i < tree->node_n; i++)
        heft_tree_add_temp(tree, i);
    assert_int_equal(tree->header->temp_n, HEFT_TEMPS_MAX / 16);
    assert_int_equal(tree->details[tree->node_n - 1].temp, 0);
    heft_tree_count_temp(tree, tree->node_n - 1, 10, 2); /* the root's record serves */
    heft_reader_t reader;
    read_back(&reader, w->path);
    assert_int_equal(heft_reader_amount(&reader, HEFT_TREE_ROOT, HEFT_MOMENT_TEMPORARY, 2).bytes, 10);
    heft_reader_close(&reader);
    assert_true(heft_tree_check(tree));
}

static void test_names(void **state)
{
    writer_t *w = *state;
    heft_tree_t *tree = &w->tree;
    heft_reader_t reader;
    heft_code_info_t info = code_info(0x1000, 1, "f");
    uint32_t code = heft_tree_add_code(tree, &info);
    heft_tree_name_module(tree, code, str("pkg.mod"));
    heft_tree_name_thread(tree, w->thread, str("Main\xC3\xA9"));
    heft_tree_name_thread(tree, w->thread, str("worker"));
    read_back(&reader, w->path);
    heft_text_t module = heft_reader_string(&reader, reader.codes[code].module),
                file = heft_reader_string(&reader, reader.codes[code].file),
                thread = heft_reader_string(&reader, reader.threads[0].name);
    assert_true(module.len == 7 && memcmp(module.ptr, "pkg.mod", 7) == 0);
    assert_true(file.len == 6 && memcmp(file.ptr, "app.py", 6) == 0);
    assert_true(thread.len == 6 && memcmp(thread.ptr, "worker", 6) == 0);
    assert_int_equal(reader.threads[0].native_id, 4711);
    heft_reader_close(&reader);
    assert_true(heft_tree_tool_bytes(tree) > 0);
}

int main(void)
{
#define WITH(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
#define WITH_SMALL(test) cmocka_unit_test_setup_teardown(test, set_up_small, tear_down)
    const struct CMUnitTest tests[] = {
        WITH(test_paths_are_told_apart_and_found_again),
        WITH(test_recursion_is_folded_but_not_across_imports),
        WITH(test_what_stands_under_the_root_is_no_machinery),
        WITH(test_regions_are_told_apart_and_found_again),
        WITH(test_stacks_in_regions),
        WITH(test_a_region_is_no_import),
        WITH(test_very_many_regions),
        WITH(test_dead_code_is_never_mistaken_for_its_successor),
        WITH(test_text_is_all_that_is_known_of_it),
        WITH(test_dead_codes_of_equal_key_do_not_pile_up),
        WITH(test_memos_of_a_dead_code_are_forgotten),
        WITH(test_a_loop_over_exec_does_not_grow_the_tree),
        cmocka_unit_test(test_a_tree_against_a_model),
        cmocka_unit_test(test_a_large_tree_against_a_model),
        cmocka_unit_test(test_a_flat_tree_against_a_model),
        WITH(test_mutual_recursion_stays_bounded),
        WITH(test_folding_by_function),
        WITH(test_a_flat_tree_keeps_the_innermost_line),
        WITH(test_a_flat_tree_keeps_the_region),
        WITH(test_a_plain_tree_keeps_the_innermost_frames),
        WITH(test_the_peak_begins_again),
        WITH(test_no_room_for_nodes),
        WITH_SMALL(test_a_column_is_full),
        WITH(test_no_room_for_regions),
        WITH_SMALL(test_no_room_for_names_of_regions),
        WITH_SMALL(test_no_room_for_code_threads_temporaries),
        WITH(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
