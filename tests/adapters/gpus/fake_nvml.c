/* A stand-in for NVIDIA's libnvidia-ml.so.1, as far as the probe asks it.

   It is driven by a text file, named by FAKE_NVML_STATE and read again at every call, of lines "key=value":

     count=2                       cards (1)                  init_error=9     what initialising returns
     driver=570.00.00              its version                 hang=1           listing blocks until the line is gone
     0.name= 0.uuid=               of card 0                   0.error=15       every question about card 0 returns this
     0.mem_total= 0.mem_used=      bytes                       0.mem_error=3    only the questions about memory do
     0.procs=1234,5678             processes that compute      0.procs_error=3  likewise

   There is no function for processes under MPS: an older library lacks some. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OK = 0, UNINITIALIZED = 1, INVALID = 2, TOO_SMALL = 7, LOST = 15, OTHER_VERSION = 25 };
enum { CARDS = 16, TEXT = 4096 };
typedef unsigned int u32;
typedef unsigned long long u64;
typedef struct card { int index; } *Card;

static struct card cards[CARDS];
static int uses;

/* Copy the last value of a key, or return 0. */
static char *value_of(const char *key, char *out) {
    const char *path = getenv("FAKE_NVML_STATE");
    FILE *file = path ? fopen(path, "re") : NULL;
    size_t length = strlen(key);
    char line[TEXT], *found = NULL;
    while (file && fgets(line, sizeof line, file)) {
        if (strncmp(line, key, length) == 0 && line[length] == '=') {
            line[strcspn(line, "\n")] = 0;
            strcpy(out, line + length + 1);
            found = out;
        }
    }
    if (file) fclose(file);
    return found;
}

static u64 number(const char *key, u64 otherwise) {
    char text[TEXT];
    return value_of(key, text) ? strtoull(text, NULL, 0) : otherwise;
}

static u64 card_number(Card card, const char *key, u64 otherwise) {
    char full[64];
    snprintf(full, sizeof full, "%d.%s", card->index, key);
    return number(full, otherwise);
}

static int trouble(Card card, const char *key) {
    if (uses == 0) return UNINITIALIZED;
    if (card->index >= (int)number("count", 1)) return INVALID;
    int error = (int)card_number(card, "error", OK);
    return error ? error : (int)card_number(card, key, OK);
}

static int card_text(Card card, const char *key, const char *otherwise, char *out, u32 size) {
    char full[64], text[TEXT];
    int error = trouble(card, "text_error");
    if (error) return error;
    snprintf(full, sizeof full, "%d.%s", card->index, key);
    const char *found = value_of(full, text);
    if (!found) found = otherwise;
    if (strlen(found) >= size) return TOO_SMALL;
    strcpy(out, found);
    return OK;
}

int nvmlInitWithFlags(u32 flags) {
    (void)flags;
    int error = (int)number("init_error", OK);
    if (error) return error;
    for (int index = 0; index < CARDS; index++) cards[index].index = index;
    uses++;
    return OK;
}

int nvmlShutdown(void) {
    if (uses == 0) return UNINITIALIZED;
    uses--;
    return OK;
}

const char *nvmlErrorString(int error) {
    switch (error) {
        case 3: return "Not Supported";
        case 4: return "Insufficient Permissions";
        case 9: return "Driver Not Loaded";
        case LOST: return "GPU is lost";
        case 18: return "Driver/library version mismatch";
        default: return "Unknown Error";
    }
}

int nvmlSystemGetDriverVersion(char *out, u32 size) {
    char text[TEXT];
    snprintf(out, size, "%s", value_of("driver", text) ? text : "570.00.00");
    return OK;
}

int nvmlDeviceGetCount_v2(u32 *count) {
    while (number("hang", 0)) usleep(5000);
    if (uses == 0) return UNINITIALIZED;
    *count = (u32)number("count", 1);
    return (int)number("count_error", OK);
}

int nvmlDeviceGetHandleByIndex_v2(u32 index, Card *card) {
    if (uses == 0) return UNINITIALIZED;
    if (index >= number("count", 1)) return INVALID;
    *card = &cards[index];
    return trouble(*card, "handle_error");
}

int nvmlDeviceGetUUID(Card card, char *out, u32 size) {
    char otherwise[64];
    snprintf(otherwise, sizeof otherwise, "GPU-00000000-0000-0000-0000-%012d", card->index);
    return card_text(card, "uuid", otherwise, out, size);
}

int nvmlDeviceGetName(Card card, char *out, u32 size) { return card_text(card, "name", "NVIDIA H200", out, size); }

int nvmlDeviceGetMemoryInfo(Card card, u64 *memory) {
    int error = trouble(card, "mem_error");
    memory[0] = card_number(card, "mem_total", 150754820096ULL);
    memory[2] = card_number(card, "mem_used", 0) + card_number(card, "mem_reserved", 0);
    memory[1] = memory[0] - memory[2];
    return error;
}

struct memory_v2 { u32 version; u64 total, reserved, free, used; };

int nvmlDeviceGetMemoryInfo_v2(Card card, struct memory_v2 *memory) {
    int error = trouble(card, "mem_error");
    if (error) return error;
    if (memory->version != (sizeof *memory | 2u << 24)) return OTHER_VERSION;
    memory->total = card_number(card, "mem_total", 150754820096ULL);
    memory->reserved = card_number(card, "mem_reserved", 0);
    memory->used = card_number(card, "mem_used", 0);
    memory->free = memory->total - memory->reserved - memory->used;
    return (int)card_number(card, "mem_v2_error", OK);
}

struct process { u32 pid; u64 memory; u32 gpu_instance, compute_instance; };

int nvmlDeviceGetComputeRunningProcesses_v3(Card card, u32 *count, struct process *out) {
    char key[64], text[TEXT];
    struct process found[64];
    u32 size = 0;
    int error = trouble(card, "procs_error");
    if (error) return error;
    snprintf(key, sizeof key, "%d.procs", card->index);
    for (char *pid = value_of(key, text) ? strtok(text, ",") : NULL; pid; pid = strtok(NULL, ","))
        found[size++] = (struct process){(u32)strtoul(pid, NULL, 10), 1 << 20, ~0u, ~0u};
    int fits = out != NULL && *count >= size;
    *count = size;
    if (size == 0) return OK;
    if (!fits) return TOO_SMALL;
    memcpy(out, found, size * sizeof *out);
    return OK;
}
