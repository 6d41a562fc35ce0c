/**
 * What must be survived: each fault by a number that stays, in families. Gaps mean nothing.
 *
 * Which tests inject one is not written here: a test says so by the number in its title (cases.ts).
 */
export interface Fault {
  readonly id: string
  readonly family: string
  readonly fault: string
  readonly injected: string
  readonly expected: string
}

type Row = readonly [id: number, fault: string, injected: string, expected: string]

const families: Readonly<Record<string, readonly Row[]>> = {
  'Slow, greedy and absurd peers': [
    [1, 'slowloris', 'lines that trickle and never end', 'cut at the frame deadline; honest peers are served'],
    [2, 'silence', 'peers that connect and say nothing', 'closed as idle, or where a first byte is demanded'],
    [3, 'a line without end', 'bytes as fast as they are taken', 'refused at the frame limit, little more read'],
    [4, 'absurd lengths', '2^31, 2^32 - 1, 2^53, below the header’s own', 'refused before anything is allocated'],
    [5, 'asks and never reads', 'thousands of requests, no reads', 'reading pauses; cut at the hard mark'],
    [
      6,
      'the handler pauses its connection',
      '`pause()` while the peer writes on',
      'the kernel holds the peer; nothing piles up',
    ],
    [7, 'a deaf subscriber', '100 subscribers, one never reads', 'it is cut; the other 99 have everything, in order'],
    [14, 'a large frame in tiny writes', '1 MiB, a few bytes at a time', 'whole, in linear time'],
    [15, 'a burst of smallest frames', 'a million at once', 'no recursion; others have their turn'],
    [16, 'pipelining, then the end', '100,000 requests and a FIN', 'all answered, then our end'],
    [28, 'compression bombs', 'gzip, deflate, brotli, zstd of zeros', 'stopped at the ratio; memory stays'],
    [29, 'slow HTTP', 'heads, bodies and readers that trickle', '408 or an end at the deadline; available throughout'],
  ],
  'Ends, resets, half-open connections': [
    [9, 'the peer half-closes', 'FIN after the request', 'the whole answer, then our FIN'],
    [10, 'we half-close', '`end()` first', 'what the peer still sends is handled'],
    [11, 'an end inside a frame', 'FIN in mid-frame', '`TRUNCATED`; the part is never delivered'],
    [12, 'half-open for good', 'a peer that never finishes', 'reaped after the half-open time'],
    [13, 'resets', 'RST inside a frame, inside a reply', 'one close with `RESET`; the server serves on'],
    [17, 'a peer that vanishes', 'packets dropped both ways', 'noticed by keep-alive'],
    [18, 'no port', 'in use; privileged', '`BindError`, nothing half-started, exit 2'],
    [37, 'a storm of connects', '10,000 connect, echo, close', 'counters balance; descriptors and heap as before'],
  ],
  'Limits and accepting': [
    [20, 'one over the limit', 'limit + 1 connections', 'refused with a reason, or waits, by policy'],
    [21, 'a limit lowered below the count', 'while it runs', 'nobody killed, nobody let in'],
    [22, 'suspend and resume', 'ten connect meanwhile', 'ten of ten served'],
    [23, 'too many from one source', '500 from one address', '400 refused; others untouched'],
    [24, 'descriptors run out', 'the process’s limit lowered', 'newcomers refused, alarm; those inside served'],
    [27, 'memory runs out', 'a budget below what is used', 'newcomers wait at 85 %, idle ones go at 95 %'],
    [79, 'a burst over workers', 'connections at once', 'spread evenly; no unbounded queue of descriptors'],
  ],
  UDP: [
    [30, 'smallest and largest datagrams', '0, 1, 65,507 bytes', 'one message each'],
    [31, 'too large', '65,508 bytes', 'told to the caller; the socket lives'],
    [
      32,
      'bursts over the receive buffer',
      'more than it holds',
      'sent = received + what the kernel counted as dropped',
    ],
    [33, 'amplification', 'a small request, a large reply', 'held to the ratio'],
    [34, 'a new source each time', 'thousands of addresses', 'the table is bounded; active ones stay'],
    [35, 'loops', 'reserved source ports, replies nobody asked for', 'never answered'],
    [36, 'refused by ICMP', 'replies to a closed port', 'harms no other peer'],
    [81, 'hostile DNS', 'pointer loops, absurd counts', 'FORMERR, at next to no cost'],
  ],
  TLS: [
    [38, 'plain text on the TLS port', 'a line', 'closed and counted'],
    [39, 'an abort inside the handshake', 'the peer leaves', 'costs nothing'],
    [40, 'a stalled handshake', 'silence, trickling', 'cut at its deadline, the socket beneath too'],
    [41, 'TLS 1.0 and 1.1', '`openssl s_client`', 'refused'],
    [42, 'weak ciphers', 'every cipher of this OpenSSL', 'those of the intermediate list alone'],
    [43, 'renegotiation', '`openssl s_client`', 'refused'],
    [44, 'server names', 'unknown, 255 bytes, NUL', 'the right certificate, the default, or an alert'],
    [45, 'client certificates', 'none, foreign, expired, large', 'refused with the reason; large ones pass'],
    [46, 'a certificate changes', 'under handshakes', 'the next has the new one; none fails'],
    [47, 'a pair that does not match', 'on disk', 'told and not used'],
    [82, 'a flood of handshakes', 'many at a time', 'capped; who waits is served'],
  ],
  'Handlers, threads, processes': [
    [
      48,
      'a handler that fails',
      'throws, rejects, never answers',
      'one report, one close or error reply; others unharmed',
    ],
    [49, 'an error event nobody hears', 'on the socket', 'contained'],
    [50, 'middleware that throws', 'at open, message, close', 'one error, one close'],
    [51, 'construction that fails', 'six times', 'six connections lost, not the listener'],
    [
      52,
      'a blocked event loop',
      'a busy loop in a worker, thread, process',
      'ended and replaced; others make progress',
    ],
    [53, 'workers killed', 'SIGKILL every 200 ms under load', 'no refused connect; the ledger holds'],
    [54, 'a worker or member ends', 'exit, signals, a full heap', 'the reason recorded; replaced'],
    [55, 'a crash loop', 'throws when loaded', 'back-off, not ready, alarm'],
    [57, 'a thread dies', 'out of memory, `process.exit`', 'what it had is `LOST`; the queue is intact'],
    [58, 'an executor’s queue is full', 'thousands of messages', 'refused at once, memory flat'],
    [59, 'bad messages between processes', 'malformed, too large', 'dropped and told'],
    [67, 'prototype pollution', '`__proto__` in JSON', 'refused; nothing polluted'],
    [68, 'hostile JSON', 'deep, huge, bad UTF-8', '`MALFORMED`'],
    [69, 'hostile routes', '64 KiB of a route', 'looked up, never matched'],
  ],
  'PROXY protocol': [
    [60, 'an untrusted source', 'a header from it', 'refused; the address unchanged'],
    [61, 'no header where one must come', 'silence, HTTP, TLS', 'refused'],
    [62, 'bad headers of version 1', 'lengths, ports, scopes, spacing', 'refused'],
    [63, 'bad headers of version 2', 'lengths, commands, TLVs, checksum', 'refused'],
    [65, 'health checks', 'LOCAL and UNKNOWN', 'the true address kept'],
    [66, 'the real thing', 'HAProxy', 'the same addresses'],
  ],
  'Files, privileges, logs': [
    [
      84,
      'a Unix socket’s path',
      'stale, a file, a live server, a link, too long',
      'stale ones replaced; others untouched',
    ],
    [85, 'a Unix socket’s mode', 'looked at from the first moment', '0660'],
    [86, 'a log that cannot be written', 'full disk, EPIPE', 'service goes on; lost lines counted'],
    [88, 'log injection', 'line ends, escapes, a megabyte, secrets', 'one escaped line, bounded, redacted'],
    [89, 'privileges', 'bind as root, then give it up', 'for good, or no start'],
  ],
  'Cluster over NATS': [
    [90, 'NATS killed under load', 'SIGKILL, once and again', '`LOST` or waits, by policy; no silent loss'],
    [91, 'slow readers, small payloads', 'a server’s small limits', 'floods arrive whole'],
    [92, 'nodes killed', 'SIGKILL under load', 'the ledger holds; nothing doubled'],
    [94, 'logins and cuts', 'wrong login, TLS, a cut wire', 'a clear fault; back when it heals; no secret logged'],
  ],
  'Drain and reload': [
    [70, 'SIGTERM under load', 'a signal', 'answers whole and in order; exit 0'],
    [71, 'a stubborn peer', 'never closes', 'cut at the deadline, counted'],
    [72, 'a handler longer than the drain', 'sleeps', 'aborted, one report'],
    [73, 'a second signal', 'TERM, INT', 'stops at once: 143, 130'],
    [74, 'SIGTERM during the start', 'at any moment', 'no hang, a known exit status'],
    [75, 'reloads under load', 'SIGHUP, again and again', 'none refused, lost or doubled'],
    [76, 'a broken configuration', 'reload', 'the old one runs on; the fault named'],
    [77, 'listeners come and go', 'reload; a worker never ready', 'nothing unbound; rolled back'],
    [78, 'socket activation', 'the service killed meanwhile', 'peers wait, none refused'],
  ],
  'Who may come in': [
    [
      95,
      'a TLS session taken up elsewhere',
      'another listener, another name, after a reload',
      'a full handshake with all its checks',
    ],
    [
      96,
      'a reset before the accept',
      'connect, send, RST; the loop blocked as well',
      'closed before `open`, counted; never trusted',
    ],
    [
      97,
      'a PROXY header over a Unix socket',
      'HAProxy, versions 1 and 2',
      'addresses, filters and limits by the header',
    ],
    [
      98,
      'other files beside the certificate',
      'a log in its folder; turned links, renamed folders',
      'read again only when its bytes differ, within 2 s',
    ],
    [
      99,
      'code and secrets by way of data',
      'module paths in options, `execArgv`, links out of the project',
      'refused; secrets hidden everywhere',
    ],
  ],
  'Last words': [
    [
      100,
      'an end called by a handler',
      'every executor, serial and concurrent; a refused frame behind messages at work',
      'every reply goes out, in order, then the end',
    ],
    [101, 'an end towards a slow reader', '8 MiB at 2 MB/s; half-closed at 200 KB/s', 'all of it is sent'],
    [102, 'half a close within a drain', 'a reload, an asynchronous handler, HTTP', 'answered'],
    [
      103,
      'a stop with peers in handshakes',
      'handshakes, upgrades, headers',
      'cut and counted; no handler runs after `STOPPED`',
    ],
    [104, 'bytes given back while a link flows', 'throttle; a layer of the kit', 'order kept'],
  ],
  'Before a session, and beside it': [
    [105, 'silent peers in handshakes', '100 of them, `connections: 5`', 'they count in every limit'],
    [
      106,
      'messages that are much work',
      '10 ms each, pipelined; one that means 200,000 things',
      'others have a turn after 5 ms',
    ],
    [107, 'what plugins keep for a peer', 'MQTT, STOMP, CoAP, HTTP', 'bounded in bytes, in one budget'],
    [
      108,
      'values that a library decodes at any cost',
      'CBOR tags, big numbers, regular expressions',
      'refused by our own walk',
    ],
    [109, 'labels that a peer’s words make', '`close(reason)`, routes', 'the first 100, then `OTHER`'],
    [110, 'one bad datagram with a forged source', 'a codec that refuses it', 'dropped and counted; the session lives'],
    [
      111,
      'HTTP to a protocol of lines',
      'a POST with a command in its body',
      'closed at its first line; nothing executed',
    ],
    [112, 'a WebSocket message that trickles', 'a byte in 200 ms', 'cut at the frame deadline'],
  ],
  Operations: [
    [
      113,
      'a storm of reloads',
      '60 SIGHUP in 3 s, peers that stay',
      'one further reload; two generations drain at most',
    ],
    [114, 'UDP sessions over reload and upgrade', '400 datagrams, SIGHUP, SIGUSR2', 'one session, one worker'],
    [115, 'a dead supervisor and a hung handler', 'SIGKILL, a busy loop', 'a watchdog ends the worker'],
    [116, 'a stream nobody listens to', 'a reset', 'told as `handler.failed`; the server lives'],
    [
      117,
      'state that would silently be several',
      'brokers with workers, values as providers',
      'refused at the start by name',
    ],
    [118, 'a client’s late replies', '200 late ones, aborted requests, greetings', 'swallowed; never another’s reply'],
    [119, 'no descriptor is free', 'for seconds, while nobody connects', 'told once; the server lives'],
    [120, 'cluster records late, twice, out of order', 'published again', 'ignored where old, counted where lost'],
    [
      121,
      'root was given up, and is needed again',
      'workers replaced, keys, tickets, ports, logs',
      'handed on, or refused at the start by name',
    ],
    [122, 'files made as root', 'links at the log, the pid file and its draft', 'never followed, never handed over'],
    [123, 'a pid file that is none', 'a text file; a number another program has', 'refused by name; told apart'],
    [124, 'listeners at run time', 'added and removed, with every executor', 'nothing is left behind'],
    [
      125,
      'a standstill of the process',
      'SIGSTOP, a handler that blocks',
      'what waited is read before deadlines are judged',
    ],
    [126, 'middleware that forgets `next`', 'dropped, repeated, never called', 'one error of one connection'],
  ],
}

export const catalogue: readonly Fault[] = Object.entries(families).flatMap(([family, rows]) =>
  rows.map(([id, fault, injected, expected]) => ({ id: `F${id}`, family, fault, injected, expected })),
)
