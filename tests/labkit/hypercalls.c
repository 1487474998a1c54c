/* What xenstored asks of Xen, answered without Xen; loaded into it by labkit.xenstored.
 *
 * It may be told that a domain has come or gone, and shares a page with domain 0's kernel. There are no domains
 * here and nobody writes into that page: clients come by the socket, with which Xen has nothing to do.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

static int handle;
static int events = -1;

void *xc_interface_open(void *logger, void *other, unsigned flags) { return &handle; }
int xc_interface_close(void *xc) { return 0; }
int xc_domain_getinfo(void *xc, unsigned first, unsigned most, void *found) { return 0; }
int xc_domain_getinfo_single(void *xc, unsigned domain, void *found) {  /* what a newer Xen has in its place */
  errno = ESRCH;
  return -1;
}

void *xengnttab_open(void *logger, unsigned flags) { return &handle; }
int xengnttab_close(void *table) { return 0; }
int xengnttab_set_max_grants(void *table, unsigned most) { return 0; }

void *xenevtchn_open(void *logger, unsigned flags) { return &handle; }
int xenevtchn_bind_virq(void *channel, unsigned number) { return 1; }
int xenevtchn_bind_interdomain(void *channel, unsigned domain, unsigned port) { return 2; }
int xenevtchn_notify(void *channel, unsigned port) { return 0; }
int xenevtchn_unbind(void *channel, unsigned port) { return 0; }
int xenevtchn_fd(void *channel) {
  if (events < 0) events = eventfd(0, EFD_CLOEXEC);
  return events;
}

int open(const char *path, int flags, ...) {
  int (*real)(const char *, int, ...) = dlsym(RTLD_NEXT, "open");
  va_list rest;
  va_start(rest, flags);
  int mode = va_arg(rest, int);
  va_end(rest);
  if (strcmp(path, "/proc/xen/xsd_port") != 0 && strcmp(path, "/proc/xen/xsd_kva") != 0)
    return real(path, flags, mode);
  int file = memfd_create("xen", MFD_CLOEXEC);
  if (strcmp(path, "/proc/xen/xsd_port") == 0) {
    if (write(file, "1", 1) != 1) return -1;
    lseek(file, 0, SEEK_SET);
  } else if (ftruncate(file, 4096) != 0) {
    return -1;
  }
  return file;
}
