/*
 * A closed-loop load generator: N connections, D requests under way on each, every reply compared byte for byte.
 *
 * One thread on epoll, so that it costs less than any server under test. Each message carries its connection and its
 * sequence number: a lost, doubled, reordered or foreign reply is an error, and errors make the exit status 1.
 *
 *   cc -O2 -o load load.c [-DWITH_TLS -lssl -lcrypto]
 *   ./load --port P | --unix PATH [--udp | --tls] --framing line|len4|nest --conns N --depth D --size BYTES
 *          [--secs S --warm S | --count N] [--pid P]...
 *
 * --count sends exactly so many messages, spread over the connections, and waits for every acknowledgement.
 * --pid reports the CPU time and memory of the server while the clock ran, of all its processes where it is given again;
 * ownMicros is the time of the load itself. Prints one line of JSON.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#ifdef WITH_TLS
#include <openssl/ssl.h>
static SSL_CTX *tls_context;
#endif

enum framing { LINE, LEN4, NEST };
struct options {
  const char *unix_path;
  int port, udp, tls, conns, depth, size, pids[16], pid_count;
  enum framing framing;
  double secs, warm;
  uint64_t count;
} o = {.conns = 1, .depth = 1, .size = 64, .secs = 2, .warm = 0.5};

struct conn {
  int fd, index, wants_write, connected;
  uint64_t sent, acked, allowed; /* sequence numbers; allowed: with --count, how many this one sends */
  char *out; size_t out_len, out_at, out_cap;
  char *in; size_t in_len, in_cap;
  uint64_t *times; /* when each request under way was sent, by sequence modulo depth */
#ifdef WITH_TLS
  SSL *ssl;
#endif
};

static int epoll, stop_sending;
static uint64_t replies, errors, lost;
static uint64_t histogram[64 * 64]; /* latency: 64 steps per power of two, in nanoseconds */
static char first_error[200];

static uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}
static void fail(const char *what, int conn, uint64_t seq) {
  if (errors++ == 0) snprintf(first_error, sizeof first_error, "%s (connection %d, message %llu)", what, conn, (unsigned long long)seq);
}
static int bucket_of(uint64_t ns) {
  if (ns < 64) return (int)ns;
  int power = 63 - __builtin_clzll(ns);
  return (power - 5) * 64 + (int)((ns >> (power - 6)) & 63);
}
static double bucket_ms(int b) {
  if (b < 64) return b / 1e6;
  int power = b / 64 + 5;
  return (double)((64ull + (unsigned)(b % 64)) << (power - 6)) / 1e6;
}
/* Payload: connection and sequence number as text, then a pattern that depends on both. */
static void payload(char *at, int conn, uint64_t seq) {
  char head[40];
  int n = snprintf(head, sizeof head, "%d:%llu:", conn, (unsigned long long)seq);
  for (int i = 0; i < o.size; i++) at[i] = i < n ? head[i] : (char)('a' + (char)((seq + (uint64_t)conn + (uint64_t)i) % 26));
}
/* The frames of a NestJS TCP microservice: a length in digits, '#', JSON. */
static const char *nest_head[] = {"{\"pattern\":\"echo\",\"data\":\"", "{\"response\":\""};
static const char *nest_tail[] = {"\",\"id\":\"1\"}", "\",\"isDisposed\":true,\"id\":\"1\"}"};
static size_t nest_body(int reply) { return strlen(nest_head[reply]) + (size_t)o.size + strlen(nest_tail[reply]); }
static size_t frame_bytes(int reply) {
  if (o.framing == NEST) return nest_body(reply) + (size_t)snprintf(NULL, 0, "%zu#", nest_body(reply));
  if (o.udp) return (size_t)o.size;
  return (size_t)o.size + (o.framing == LINE ? 1 : 4);
}
static size_t put_frame(char *at, int conn, uint64_t seq, int reply) {
  char *body = at;
  if (o.framing == NEST) {
    body += sprintf(body, "%zu#%s", nest_body(reply), nest_head[reply]);
    payload(body, conn, seq);
    strcpy(body + o.size, nest_tail[reply]);
    return frame_bytes(reply);
  }
  if (o.framing == LEN4 && !o.udp) {
    uint32_t n = htonl((uint32_t)o.size);
    memcpy(at, &n, 4);
    body += 4;
  }
  payload(body, conn, seq);
  if (o.framing == LINE && !o.udp) body[o.size] = '\n';
  return frame_bytes(reply);
}
static void watch(struct conn *c, int write) {
  if (c->wants_write == write && c->connected) return;
  struct epoll_event e = {.events = EPOLLIN | (write ? EPOLLOUT : 0), .data.ptr = c};
  epoll_ctl(epoll, c->connected ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, c->fd, &e);
  c->wants_write = write;
  c->connected = 1;
}
static ssize_t put(struct conn *c, const char *from, size_t n) {
#ifdef WITH_TLS
  if (c->ssl) {
    int r = SSL_write(c->ssl, from, (int)n);
    if (r > 0) return r;
    errno = EAGAIN;
    return SSL_get_error(c->ssl, r) == SSL_ERROR_WANT_WRITE || SSL_get_error(c->ssl, r) == SSL_ERROR_WANT_READ ? -1 : 0;
  }
#endif
  return send(c->fd, from, n, MSG_NOSIGNAL);
}
static ssize_t get(struct conn *c, char *to, size_t n) {
#ifdef WITH_TLS
  if (c->ssl) {
    int r = SSL_read(c->ssl, to, (int)n);
    if (r > 0) return r;
    int e = SSL_get_error(c->ssl, r);
    if (e == SSL_ERROR_WANT_READ || e == SSL_ERROR_WANT_WRITE) { errno = EAGAIN; return -1; }
    return 0;
  }
#endif
  return recv(c->fd, to, n, 0);
}
static void flush(struct conn *c) {
  while (c->out_at < c->out_len) {
    size_t n = o.udp ? frame_bytes(0) : c->out_len - c->out_at;
    ssize_t r = put(c, c->out + c->out_at, n);
    if (r < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) { watch(c, 1); return; }
    if (r <= 0) { fail("write failed", c->index, c->sent); exit(1); }
    c->out_at += (size_t)r;
  }
  c->out_at = c->out_len = 0;
  watch(c, 0);
}
static void fill(struct conn *c) {
  uint64_t now = 0;
  size_t n = frame_bytes(0);
  while (!stop_sending && c->sent - c->acked < (uint64_t)o.depth && c->sent < c->allowed) {
    if (c->out_len + n > c->out_cap) return;
    if (now == 0) now = now_ns();
    c->times[c->sent % (uint64_t)o.depth] = now;
    c->out_len += put_frame(c->out + c->out_len, c->index, c->sent++, 0);
  }
  if (c->out_len > c->out_at) flush(c);
}
static void take(struct conn *c) {
  static char expected[1 << 20];
  size_t n = frame_bytes(1), at = 0;
  uint64_t now = now_ns();
  while (c->in_len - at >= n) {
    if (c->acked >= c->sent) { fail("a reply nobody asked for", c->index, c->acked); exit(1); }
    put_frame(expected, c->index, c->acked, 1);
    if (memcmp(expected, c->in + at, n) != 0) { fail("a wrong reply", c->index, c->acked); exit(1); }
    uint64_t took = now - c->times[c->acked % (uint64_t)o.depth];
    histogram[bucket_of(took)]++;
    c->acked++;
    replies++;
    at += n;
  }
  memmove(c->in, c->in + at, c->in_len - at);
  c->in_len -= at;
}
static void readable(struct conn *c) {
  for (;;) {
    ssize_t r = get(c, c->in + c->in_len, c->in_cap - c->in_len);
    if (r < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) break;
    if (r <= 0) { fail("the server hung up", c->index, c->acked); exit(1); }
    c->in_len += (size_t)r;
    take(c);
    if (!o.udp && !o.tls && c->in_len < c->in_cap) break;
  }
  fill(c);
}
static int open_socket(void) {
  int fd = socket(o.unix_path ? AF_UNIX : AF_INET, o.udp ? SOCK_DGRAM : SOCK_STREAM, 0);
  int yes = 1, r, size = 4 << 20;
  if (o.unix_path) {
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    strncpy(a.sun_path, o.unix_path, sizeof a.sun_path - 1);
    r = connect(fd, (struct sockaddr *)&a, sizeof a);
  } else {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)o.port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (o.udp) setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    else setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    r = connect(fd, (struct sockaddr *)&a, sizeof a);
  }
  if (r < 0) { perror("connect"); exit(2); }
  return fd;
}
static double cpu_of_one(int pid) {
  char path[64], line[1024];
  snprintf(path, sizeof path, "/proc/%d/stat", pid);
  FILE *f = fopen(path, "r");
  if (!f || !fgets(line, sizeof line, f)) return 0;
  fclose(f);
  char *p = strrchr(line, ')');
  unsigned long user = 0, kernel = 0;
  sscanf(p + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &kernel);
  return (double)(user + kernel) / (double)sysconf(_SC_CLK_TCK);
}
static double cpu_of_server(void) {
  double sum = 0;
  for (int i = 0; i < o.pid_count; i++) sum += cpu_of_one(o.pids[i]);
  return sum;
}
static double cpu_of_load(void) {
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) + (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}
static long rss_of(int pid) {
  char path[64], line[256];
  long kb = 0;
  snprintf(path, sizeof path, "/proc/%d/status", pid);
  FILE *f = fopen(path, "r");
  while (f && fgets(line, sizeof line, f)) if (sscanf(line, "VmRSS: %ld", &kb) == 1) break;
  if (f) fclose(f);
  return kb;
}
static double quantile(double q) {
  uint64_t total = 0, seen = 0;
  int n = sizeof histogram / sizeof *histogram;
  for (int i = 0; i < n; i++) total += histogram[i];
  for (int i = 0; i < n; i++) if ((seen += histogram[i]) >= (uint64_t)(q * (double)total)) return bucket_ms(i);
  return 0;
}
static int usage(const char *what) { fprintf(stderr, "load: %s; see the head of load.c\n", what); return 2; }

int main(int argc, char **argv) {
  for (int i = 1; i < argc; i++) {
    const char *a = argv[i], *v = i + 1 < argc ? argv[i + 1] : "";
    if (!strcmp(a, "--udp")) { o.udp = 1; continue; }
    if (!strcmp(a, "--tls")) { o.tls = 1; continue; }
    i++;
    if (!strcmp(a, "--port")) o.port = atoi(v);
    else if (!strcmp(a, "--unix")) o.unix_path = v;
    else if (!strcmp(a, "--framing")) o.framing = !strcmp(v, "len4") ? LEN4 : !strcmp(v, "nest") ? NEST : LINE;
    else if (!strcmp(a, "--conns")) o.conns = atoi(v);
    else if (!strcmp(a, "--depth")) o.depth = atoi(v);
    else if (!strcmp(a, "--size")) o.size = atoi(v);
    else if (!strcmp(a, "--secs")) o.secs = atof(v);
    else if (!strcmp(a, "--warm")) o.warm = atof(v);
    else if (!strcmp(a, "--count")) o.count = strtoull(v, NULL, 10);
    else if (!strcmp(a, "--pid") && o.pid_count < 16) o.pids[o.pid_count++] = atoi(v);
    else return usage(a);
  }
  if (o.size < 24 || o.size > (1 << 20) - 8) return usage("--size must be 24 to 1048568");
  signal(SIGPIPE, SIG_IGN);
  struct rlimit files;
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
#ifdef WITH_TLS
  if (o.tls) tls_context = SSL_CTX_new(TLS_client_method());
#else
  if (o.tls) return usage("built without TLS");
#endif
  epoll = epoll_create1(0);
  struct conn *all = calloc((size_t)o.conns, sizeof *all);
  for (int i = 0; i < o.conns; i++) {
    struct conn *c = &all[i];
    c->index = i;
    c->allowed = o.count ? o.count / (uint64_t)o.conns + ((uint64_t)i < o.count % (uint64_t)o.conns) : UINT64_MAX;
    c->fd = open_socket();
    c->out_cap = frame_bytes(0) * (size_t)o.depth + 64;
    c->in_cap = frame_bytes(1) * (size_t)o.depth + 65536;
    c->out = malloc(c->out_cap);
    c->in = malloc(c->in_cap);
    c->times = calloc((size_t)o.depth, sizeof *c->times);
#ifdef WITH_TLS
    if (o.tls) {
      c->ssl = SSL_new(tls_context);
      SSL_set_fd(c->ssl, c->fd);
      SSL_set_mode(c->ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
      if (SSL_connect(c->ssl) != 1) { fprintf(stderr, "load: handshake failed\n"); return 2; }
    }
#endif
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    watch(c, 0);
  }
  uint64_t began = now_ns(), measured = began, counted = 0;
  double cpu = cpu_of_server(), own = cpu_of_load();
  int is_warm = o.count > 0;
  for (int i = 0; i < o.conns; i++) fill(&all[i]);
  uint64_t last = began, last_replies = 0;
  for (;;) {
    struct epoll_event events[512];
    int n = epoll_wait(epoll, events, 512, 100);
    for (int i = 0; i < n; i++) {
      struct conn *c = events[i].data.ptr;
      if (events[i].events & EPOLLOUT) flush(c);
      if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) readable(c);
    }
    uint64_t now = now_ns();
    if (!is_warm && now - began > (uint64_t)(o.warm * 1e9)) {
      is_warm = 1;
      memset(histogram, 0, sizeof histogram);
      measured = now;
      counted = replies;
      cpu = cpu_of_server();
      own = cpu_of_load();
    }
    if (o.count && replies == o.count) break;
    if (!o.count && is_warm && now - measured > (uint64_t)(o.secs * 1e9)) break;
    if (replies != last_replies) { last = now; last_replies = replies; }
    else if (now - last > 1000000000u && o.udp) { /* a datagram was lost: count it and go on */
      for (int i = 0; i < o.conns; i++) { lost += all[i].sent - all[i].acked; all[i].acked = all[i].sent; all[i].in_len = 0; fill(&all[i]); }
      last = now;
    } else if (now - last > 20000000000u) { fail("nothing came for 20 s", 0, replies); break; }
  }
  double secs = (double)(now_ns() - measured) / 1e9;
  uint64_t done = replies - counted;
  double each = 1e6 / (double)(done ? done : 1);
  long rss = 0;
  for (int i = 0; i < o.pid_count; i++) rss += rss_of(o.pids[i]);
  printf("{\"replies\":%llu,\"secs\":%.3f,\"rate\":%.0f,\"errors\":%llu,\"lost\":%llu,\"p50\":%.3f,\"p99\":%.3f,\"cpuMicros\":%.3f,\"ownMicros\":%.3f,\"rssKb\":%ld,\"error\":\"%s\"}\n",
         (unsigned long long)done, secs, (double)done / secs, (unsigned long long)errors, (unsigned long long)lost, quantile(0.5), quantile(0.99),
         (cpu_of_server() - cpu) * each, (cpu_of_load() - own) * each, rss, first_error);
  return errors > 0;
}
