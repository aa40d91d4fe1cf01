// Reads vectors.txt and the .bin files: words between spaces, little-endian arrays, no library.
#include "vectors.h"

#include <stdlib.h>
#include <string.h>

void fail(const char *what, const char *name) {
    fprintf(stderr, "plain: %s: %s\n", name, what);
    exit(2);
}

static FILE *open_in(const char *dir, const char *file) {
    char path[4096];
    if (snprintf(path, sizeof path, "%s/%s", dir, file) >= (int)sizeof path) fail("path is too long", file);
    FILE *opened = fopen(path, "rb");
    if (!opened) fail("cannot be opened", path);
    return opened;
}

FILE *open_index(const char *dir) {
    FILE *index = open_in(dir, "vectors.txt");
    char contract[NAME];
    int version, cases;
    if (fscanf(index, "pagnp-vectors %d %31s %d", &version, contract, &cases) != 3 || version != 1)
        fail("is no vectors.txt of version 1", dir);
    return index;
}

static void read_attr(FILE *index, Case *c) {
    if (c->attr_count == MAX_ATTRS) fail("too many attributes", c->id);
    Attr *a = &c->attrs[c->attr_count++];
    if (fscanf(index, "%31s %d", a->name, &a->count) != 2 || a->count > MAX_VALUES) fail("bad attribute", c->id);
    for (int i = 0; i < a->count; i++)
        if (fscanf(index, "%31s", a->value[i]) != 1) fail("bad attribute", c->id);
}

static void read_array(FILE *index, Case *c) {
    if (c->array_count == MAX_ARRAYS) fail("too many arrays", c->id);
    Array *a = &c->arrays[c->array_count++];
    if (fscanf(index, "%31s %31s %d", a->name, a->dtype, &a->ndim) != 3 || a->ndim > MAX_DIMS)
        fail("bad array", c->id);
    a->count = 1;
    for (int i = 0; i < a->ndim; i++) {
        if (fscanf(index, "%d", &a->size[i]) != 1 || a->size[i] < 0) fail("bad array", c->id);
        a->count *= (size_t)a->size[i];
    }
    if (fscanf(index, "%255s", a->file) != 1) fail("bad array", c->id);
    a->bytes = a->count * (strcmp(a->dtype, "bool") ? 4 : 1);
    a->data = NULL;
}

int next_case(FILE *index, Case *c) {
    char word[NAME];
    c->attr_count = c->array_count = 0;
    if (fscanf(index, "%31s", word) != 1) return 0;
    if (strcmp(word, "case") || fscanf(index, "%255s %31s", c->id, c->op) != 2) fail("bad line", word);
    while (fscanf(index, "%31s", word) == 1) {
        if (!strcmp(word, "end")) return 1;
        if (!strcmp(word, "attr")) read_attr(index, c);
        else if (!strcmp(word, "array")) read_array(index, c);
        else fail("bad line", word);
    }
    fail("vectors.txt ends in the middle", c->id);
    return 0;
}

void load_case(const char *dir, Case *c) {
    for (int i = 0; i < c->array_count; i++) {
        Array *a = &c->arrays[i];
        if (!strcmp(a->name, "out")) continue;
        FILE *file = open_in(dir, a->file);
        a->data = malloc(a->bytes + 1);  // never 0: without sites an array is empty
        if (!a->data || fread(a->data, 1, a->bytes, file) != a->bytes) fail("is too short", a->file);
        fclose(file);
    }
}

void free_case(Case *c) {
    for (int i = 0; i < c->array_count; i++) free(c->arrays[i].data);
}

const Array *find_array(const Case *c, const char *name) {
    for (int i = 0; i < c->array_count; i++)
        if (!strcmp(c->arrays[i].name, name)) return &c->arrays[i];
    return NULL;
}

static const Attr *find_attr(const Case *c, const char *name) {
    for (int i = 0; i < c->attr_count; i++)
        if (!strcmp(c->attrs[i].name, name)) return &c->attrs[i];
    return NULL;
}

int int_attr(const Case *c, const char *name, int i, int otherwise) {
    const Attr *a = find_attr(c, name);
    return a ? atoi(a->value[i]) : otherwise;
}

const char *word_attr(const Case *c, const char *name, const char *otherwise) {
    const Attr *a = find_attr(c, name);
    return a ? a->value[0] : otherwise;
}

const float *float_attr(const Case *c, const char *name, float *place) {
    const Attr *a = find_attr(c, name);
    if (!a) return NULL;
    *place = strtof(a->value[0], NULL);
    return place;
}
