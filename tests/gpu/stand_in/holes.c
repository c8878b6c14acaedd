/* To be preloaded: zeros that are written to a file become a hole in it, so that large files of the stand-in card's zeros take no disk.
 *
 *   cc -O2 -fPIC -shared -o holes.so holes.c
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PAGE = 4096 };

static int is_hole(int file, const char *bytes, size_t count, struct stat *about) {
    return count >= PAGE && bytes[0] == 0 && !memcmp(bytes, bytes + 1, count - 1) && !fstat(file, about) && S_ISREG(about->st_mode);
}

ssize_t write(int file, const void *bytes, size_t count) {
    static ssize_t (*written)(int, const void *, size_t);
    struct stat about;
    if (!written) written = dlsym(RTLD_NEXT, "write");
    if (!is_hole(file, bytes, count, &about)) return written(file, bytes, count);
    off_t end = lseek(file, (off_t)count, SEEK_CUR);
    return end < 0 || (end > about.st_size && ftruncate(file, end)) ? -1 : (ssize_t)count;
}
