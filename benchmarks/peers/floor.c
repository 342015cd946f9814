/* The floor: what the system calls of a directory queue cost where nothing else is done.
 *
 * It keeps the promises of a claim, with as few calls as that takes, on directory descriptors:
 *
 *   drain     list and sort once; write the names down for each group of 32 (the lease); then for each message
 *             renameat2 (the claim, never onto another message), openat, fstat (a regular file, its size and arrival),
 *             read, close, unlinkat or renameat2
 *   enqueue   openat, write, renameat2, close; with --sync always also fsync of the file and of the directory. With
 *             --sync batch, 256 files are written, the kernel is told to begin with each (sync_file_range), and only
 *             then each is synced: the file system commits once for many, where one by one it commits for each
 *
 * Command line and report are those of stopwatch.py.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { GROUP = 256, CLAIMS = 32 };

static const char *out, *sync_mode = "off";
static long count, size = 1024;
static double began, user, sys_;

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static int open_part(const char *queue, const char *part)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", queue, part);
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        fail(path);
    return fd;
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + now.tv_nsec / 1e9;
}

static void processor(double *user_now, double *system_now)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    *user_now = usage.ru_utime.tv_sec + usage.ru_utime.tv_usec / 1e6;
    *system_now = usage.ru_stime.tv_sec + usage.ru_stime.tv_usec / 1e6;
}

static void ready(void)
{
    puts("ready");
    fflush(stdout);
    while (getchar() != '\n' && !feof(stdin))
        ;
    processor(&user, &sys_);
    began = seconds();
}

static void report(long messages)
{
    double ended = seconds(), user_now, system_now;
    processor(&user_now, &system_now);
    printf("{\"messages\": %ld, \"began\": %.9f, \"ended\": %.9f, \"user\": %.6f, \"system\": %.6f}\n",
           messages, began, ended, user_now - user, system_now - sys_);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static char **list(int directory, long *found)
{
    DIR *stream = fdopendir(dup(directory));
    char **names = NULL;
    long room = 0;
    *found = 0;
    if (!stream)
        fail("fdopendir");
    for (struct dirent *entry; (entry = readdir(stream));) {
        if (entry->d_name[0] == '.' || entry->d_type != DT_REG)
            continue;
        if (*found == room && !(names = realloc(names, (room = 2 * room + 1024) * sizeof *names)))
            fail("realloc");
        names[(*found)++] = strdup(entry->d_name);
    }
    closedir(stream);
    qsort(names, *found, sizeof *names, by_name);
    return names;
}

/* One message; returns whether it was ours to take. */
static int take(int incoming, int pending, int target, const char *name)
{
    static char *contents;
    static off_t room;
    struct stat here;
    if (renameat2(incoming, name, pending, name, RENAME_NOREPLACE)) {
        if (errno == ENOENT || errno == EEXIST)
            return 0;
        fail(name);
    }
    int fd = openat(pending, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &here) || !S_ISREG(here.st_mode))
        fail(name);
    if (here.st_size > room && !(contents = realloc(contents, room = here.st_size)))
        fail("realloc");
    if (read(fd, contents, here.st_size) != here.st_size)
        fail("read");
    close(fd);
    if (target < 0 ? unlinkat(pending, name, 0) : renameat2(pending, name, target, name, RENAME_NOREPLACE))
        fail(name);
    return 1;
}

/* Write down which messages come next. */
static void announce(int lease, char **names, long number)
{
    static char list[CLAIMS * 256];
    size_t length = 0;
    for (long each = 0; each < number; each++)
        length += (size_t)sprintf(list + length, "/%s", names[each]);
    if (pwrite(lease, list, length, 0) < 0)
        fail("pwrite");
}

static void drain(const char *queue)
{
    int incoming = open_part(queue, "incoming"), pending = open_part(queue, "pending");
    int target = out ? open_part(out, "incoming") : -1;
    long found, messages = 0;
    int lease = openat(open_part(queue, "tmp"), "floor", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    ready();
    char **names = list(incoming, &found);
    for (long each = 0; each < found && messages < count; each++) {
        if (each % CLAIMS == 0)
            announce(lease, names + each, found - each < CLAIMS ? found - each : CLAIMS);
        messages += take(incoming, pending, target, names[each]);
    }
    report(messages);
}

/* A file in tmp that holds one message; the descriptor. */
static int new_file(int tmp, const char *contents, char name[64])
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    snprintf(name, 64, "%010ld.%09ld.%d.floor", (long)now.tv_sec, now.tv_nsec, (int)getpid());
    int fd = openat(tmp, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0664);
    if (fd < 0 || write(fd, contents, size) != size)
        fail("write");
    return fd;
}

static void enqueue(const char *queue)
{
    int tmp = open_part(queue, "tmp"), incoming = open_part(queue, "incoming"), fds[GROUP];
    int group = strcmp(sync_mode, "batch") ? 1 : GROUP, durable = strcmp(sync_mode, "off");
    char *contents = malloc(size), names[GROUP][64];
    if (!contents)
        fail("malloc");
    memset(contents, 'x', size);
    ready();
    for (long done = 0; done < count; done += group) {
        int here = count - done < group ? (int)(count - done) : group;
        for (int each = 0; each < here; each++) {
            fds[each] = new_file(tmp, contents, names[each]);
            if (group > 1 && sync_file_range(fds[each], 0, 0, SYNC_FILE_RANGE_WRITE))
                fail("sync_file_range");
        }
        for (int each = 0; durable && each < here; each++)
            if (fsync(fds[each]))
                fail("fsync");
        for (int each = 0; each < here; each++) {
            if (renameat2(tmp, names[each], incoming, names[each], RENAME_NOREPLACE))
                fail("renameat2");
            close(fds[each]);
        }
        if (durable && fsync(incoming))
            fail("fsync");
    }
    report(count);
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "usage: %s drain|enqueue QUEUE [--count N] [--out QUEUE] [--size BYTES] [--sync MODE]\n", *argv);
        return 64;
    }
    for (int each = 3; each + 1 < argc; each += 2) {
        if (!strcmp(argv[each], "--count"))
            count = atol(argv[each + 1]);
        else if (!strcmp(argv[each], "--out"))
            out = argv[each + 1];
        else if (!strcmp(argv[each], "--size"))
            size = atol(argv[each + 1]);
        else if (!strcmp(argv[each], "--sync"))
            sync_mode = argv[each + 1];
    }
    if (!strcmp(argv[1], "drain"))
        drain(argv[2]);
    else
        enqueue(argv[2]);
    return 0;
}
