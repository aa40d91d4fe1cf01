// The cases of a folder that `pagnp vectors write DIR --format raw` made; docs/VECTORS.md has the format.
#ifndef VECTORS_H
#define VECTORS_H

#include <stdio.h>

enum { MAX_ATTRS = 16, MAX_VALUES = 8, MAX_ARRAYS = 16, MAX_DIMS = 4, NAME = 32, WORD = 256 };

typedef struct {
    char name[NAME];
    int count;
    char value[MAX_VALUES][NAME];
} Attr;

typedef struct {
    char name[NAME], dtype[NAME], file[WORD];
    int ndim, size[MAX_DIMS];
    size_t count, bytes;
    void *data;
} Array;

typedef struct {
    char id[WORD], op[NAME];
    int attr_count, array_count;
    Attr attrs[MAX_ATTRS];
    Array arrays[MAX_ARRAYS];
} Case;

// Open DIR/vectors.txt; exits with a message if it is not there or of another version.
FILE *open_index(const char *dir);

// Read the next case: 1, or 0 at the end. Its arrays are not loaded yet.
int next_case(FILE *index, Case *c);

// Read the files of a case's inputs; not that of `out`, the expected answer. free_case frees them.
void load_case(const char *dir, Case *c);
void free_case(Case *c);

// An array, or NULL if the case has none of that name.
const Array *find_array(const Case *c, const char *name);

// Value i of an attribute, or `otherwise` if it is absent.
int int_attr(const Case *c, const char *name, int i, int otherwise);
const char *word_attr(const Case *c, const char *name, const char *otherwise);
const float *float_attr(const Case *c, const char *name, float *place);  // place, or NULL if absent

void fail(const char *what, const char *name);

#endif
