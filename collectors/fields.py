"""The registry of all columns: name, unit, type, meaning and where the number comes from.

Whoever writes a table takes its header from here, whoever reads it takes its types from here, and
`results/README.md` is generated from here. The first column of a source is always the time of the
reading, the last one the reason why a reading failed; a failed reading has no values but that.

History of FORMAT_VERSION, raised when a column changes its meaning, name or unit:
    1  first version
    2  accept_queue.via; unix_states.all_*; upstream_conns.waiting_*; process.sockets; agent has a row for each reading
    3  queue_waits
    4  virtual_windows, of runs in virtual time
    5  requests.generator, intended_ns, connected_ns, first_byte_ns; a file of requests for each process
    6  process.deleted_files, deleted_bytes; socket_memory; syscalls; upstream_events
    7  machine; host.json has clocks.kernel_boot_id, cpu.governor and kernel.psi; written.json, units.json
    8  syscalls from nginx's start on, with the phase of each; its object may be listener
"""

from __future__ import annotations

from dataclasses import dataclass

FORMAT_VERSION = 8


@dataclass(frozen=True)
class Field:
    """One column.

    Attributes:
        name: with the unit as its suffix where it has one.
        type: "integer", "real" or "text".
        unit: what one of it is; empty for names and states.
        meaning: one sentence.
        source: the kernel file, the nginx source or the program that it is read from.
    """

    name: str
    type: str
    unit: str
    meaning: str
    source: str


@dataclass(frozen=True)
class Table:
    """One table of a run: a name, what it is, and its columns in order."""

    name: str
    about: str
    fields: tuple[Field, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns in order."""
        return tuple(field.name for field in self.fields)


T_NS = Field("t_ns", "integer", "ns", "Time of the reading on the host's monotonic clock.", "CLOCK_MONOTONIC")
REASON = Field("reason", "text", "", "Why the reading failed; empty when it succeeded.", "the agent")

_DIAG_UNIX = "net/unix/diag.c sk_diag_show_rqlen"
_SEQ_UNIX = "net/unix/af_unix.c unix_seq_show"
_STATUS = "nginx ngx_http_stub_status_module.c"
_NETSTAT = "/proc/net/netstat, net/ipv4/proc.c"
_AGENT = "collectors/agent.py"
_SMAPS = "/proc/PID/smaps_rollup, fs/proc/task_mmu.c"

ACCEPT_QUEUE = Table(
    "accept_queue",
    "Depth and limit of the accept queue, one row for each listener and reading.",
    (
        T_NS,
        Field(
            "listener",
            "text",
            "",
            "upstream: the misbehaving server; upstream_2, …: others behind nginx; front: nginx's own.",
            "agent.json",
        ),
        Field(
            "depth_conns",
            "integer",
            "conns",
            "Complete connections that wait for accept(). More than limit_conns means full: the queue holds one more.",
            f"unix: udiag_rqueue, {_DIAG_UNIX}; TCP: idiag_rqueue, net/ipv4/tcp_diag.c tcp_diag_get_info",
        ),
        Field(
            "limit_conns",
            "integer",
            "conns",
            "min(backlog, somaxconn) at the moment of listen(), as the kernel holds it.",
            "sk_max_ack_backlog by udiag_wqueue or idiag_wqueue",
        ),
        Field(
            "via",
            "text",
            "",
            "unix_diag or inet_diag; proc where the kernel has no unix_diag: counted in /proc/net/unix, without limit.",
            "collectors/accept_queue.py",
        ),
        REASON,
    ),
)

UNIX_STATES = Table(
    "unix_states",
    "Rows of /proc/net/unix by state: those on the upstream's path, and all. TCP has no such rows.",
    (
        T_NS,
        Field("free_socks", "integer", "socks", "State 00, SS_FREE.", _SEQ_UNIX),
        Field(
            "unconnected_socks",
            "integer",
            "socks",
            "State 01, SS_UNCONNECTED: the listener itself.",
            _SEQ_UNIX,
        ),
        Field(
            "connecting_socks",
            "integer",
            "socks",
            "State 02, SS_CONNECTING: connections in the accept queue, not accepted.",
            _SEQ_UNIX,
        ),
        Field("connected_socks", "integer", "socks", "State 03, SS_CONNECTED: accepted connections.", _SEQ_UNIX),
        Field("disconnecting_socks", "integer", "socks", "State 04, SS_DISCONNECTING.", _SEQ_UNIX),
        *(
            Field(f"all_{state}_socks", "integer", "socks", "The same for the whole network namespace.", _SEQ_UNIX)
            for state in ("free", "unconnected", "connecting", "connected", "disconnecting")
        ),
        REASON,
    ),
)

UPSTREAM_CONNS = Table(
    "upstream_conns",
    "Connections to the upstream: accepted and not closed, with the bytes left unread in them; waiting for accept().",
    (
        T_NS,
        Field(
            "accepted_conns",
            "integer",
            "conns",
            "A: connections to the upstream that a process holds (they have an inode).",
            "net/unix/diag.c, net/ipv4/inet_diag.c",
        ),
        Field("unread_bytes", "integer", "bytes", "Sum of their receive queues.", "udiag_rqueue, idiag_rqueue"),
        Field(
            "waiting_live_conns",
            "integer",
            "conns",
            "In the accept queue, and the client is still there.",
            "unix: UNIX_DIAG_ICONS has the client's inode; TCP: no inode, not CLOSE_WAIT",
        ),
        Field(
            "waiting_dead_conns",
            "integer",
            "conns",
            "In the accept queue, and the client has closed: its slot remains used. Not seen over TCP after a reset.",
            "unix: UNIX_DIAG_ICONS has 0; TCP: no inode, CLOSE_WAIT",
        ),
        REASON,
    ),
)

STUB_STATUS = Table(
    "stub_status",
    "nginx's own counters, read over one keep-alive connection from loopback.",
    (
        Field(
            "t_ns",
            "integer",
            "ns",
            "When the answer came, on the host's monotonic clock; nginx counts just before it answers.",
            "CLOCK_MONOTONIC",
        ),
        Field(
            "active_conns",
            "integer",
            "conns",
            "Active connections as printed: our own poll is one of them.",
            _STATUS,
        ),
        Field(
            "active_without_poll_conns",
            "integer",
            "conns",
            "Active connections without our own poll.",
            _STATUS,
        ),
        Field("reading_requests", "integer", "requests", "Requests whose header nginx reads.", _STATUS),
        Field(
            "writing_requests",
            "integer",
            "requests",
            "Requests being answered or proxied; our own is one.",
            _STATUS,
        ),
        Field("waiting_conns", "integer", "conns", "Idle keep-alive and fresh connections.", _STATUS),
        Field("accepts_total", "integer", "conns", "Accepted client connections since nginx started.", _STATUS),
        Field("handled_total", "integer", "conns", "Accepted connections that got a slot.", _STATUS),
        Field(
            "requests_total",
            "integer",
            "requests",
            "Client requests since nginx started; our polls included.",
            _STATUS,
        ),
        REASON,
    ),
)

PROCESS = Table(
    "process",
    "Memory, descriptors and cpu of each nginx process and of the upstream.",
    (
        T_NS,
        Field(
            "role",
            "text",
            "",
            "nginx-master, nginx-worker or upstream; nginx where it could not be told which.",
            "agent.json",
        ),
        Field("pid", "integer", "", "Process id.", "/proc"),
        Field(
            "vmsize_bytes",
            "integer",
            "bytes",
            "Virtual memory: the study's VmSize.",
            "/proc/PID/status",
        ),
        Field("rss_bytes", "integer", "bytes", "Resident memory, shared pages included.", _SMAPS),
        Field("pss_bytes", "integer", "bytes", "Resident memory, shared pages divided by their users.", _SMAPS),
        Field("private_dirty_bytes", "integer", "bytes", "Memory that this process alone has written.", _SMAPS),
        Field("fds", "integer", "fds", "Open file descriptors.", "/proc/PID/fd"),
        Field("sockets", "integer", "fds", "Open sockets: connections, listeners, channels.", "/proc/PID/fd"),
        Field(
            "deleted_files",
            "integer",
            "fds",
            "Open files that have no name any more: where nginx keeps request bodies.",
            "/proc/PID/fd; nginx ngx_file.c ngx_create_temp_file, ngx_files.c ngx_open_tempfile",
        ),
        Field("deleted_bytes", "integer", "bytes", "What these files hold together.", "fstat()"),
        Field("threads", "integer", "threads", "Threads.", "/proc/PID/status"),
        Field("cpu_s", "real", "s", "User and system time since the process started.", "/proc/PID/stat"),
        Field(
            "voluntary_switches_total",
            "integer",
            "switches",
            "Voluntary context switches.",
            "/proc/PID/status",
        ),
        Field(
            "involuntary_switches_total",
            "integer",
            "switches",
            "Involuntary context switches.",
            "/proc/PID/status",
        ),
        REASON,
    ),
)

TCP_EXT = Table(
    "tcp_ext",
    "TCP counters of the host's network namespace since it began. They count segments, not clients.",
    (
        T_NS,
        Field(
            "listen_overflows_total",
            "integer",
            "events",
            "ListenOverflows: an accept queue was full.",
            _NETSTAT,
        ),
        Field(
            "listen_drops_total",
            "integer",
            "events",
            "ListenDrops: a SYN or final ACK was dropped.",
            _NETSTAT,
        ),
        Field(
            "req_q_full_drop_total",
            "integer",
            "events",
            "TCPReqQFullDrop: SYN queue full, dropped.",
            _NETSTAT,
        ),
        Field(
            "req_q_full_cookies_total",
            "integer",
            "events",
            "TCPReqQFullDoCookies: SYN queue full, cookie.",
            _NETSTAT,
        ),
        Field(
            "timeouts_total",
            "integer",
            "events",
            "TCPTimeouts: retransmission timers that ran out.",
            _NETSTAT,
        ),
        Field("syn_retrans_total", "integer", "events", "TCPSynRetrans: SYN segments sent again.", _NETSTAT),
        REASON,
    ),
)

_MEMINFO = "net/core/sock.c sk_get_meminfo"

SOCKET_MEMORY = Table(
    "socket_memory",
    "What the kernel itself holds for the sockets of the host's network namespace; no process has this memory.",
    (
        T_NS,
        Field("unix_socks", "integer", "socks", "Unix sockets that a process holds.", "net/unix/diag.c"),
        Field(
            "unix_sent_bytes",
            "integer",
            "bytes",
            "Sent through them and not yet received, with the kernel's overhead: the sender is charged.",
            f"SK_MEMINFO_WMEM_ALLOC, {_MEMINFO}",
        ),
        Field("tcp_socks", "integer", "socks", "TCP sockets over IPv4, accepted or not.", "net/ipv4/inet_diag.c"),
        Field(
            "tcp_unread_bytes",
            "integer",
            "bytes",
            "Received by them and not yet read, with the kernel's overhead.",
            f"SK_MEMINFO_RMEM_ALLOC, {_MEMINFO}",
        ),
        Field(
            "tcp_unsent_bytes",
            "integer",
            "bytes",
            "Written to them and not yet acknowledged, with the kernel's overhead.",
            f"SK_MEMINFO_WMEM_QUEUED, {_MEMINFO}",
        ),
        REASON,
    ),
)

_CPU = "/proc/stat, line cpu"
_PRESSURE = "/proc/pressure, kernel/sched/psi.c"
_MACHINE = "collectors/machine.py"

MACHINE = Table(
    "machine",
    "What the whole machine did, other programs and guests included. What ends in _s, _us or _total counts since the "
    "kernel or the unit was started. A value that this kernel does not have is empty and has no reason.",
    (
        T_NS,
        Field("cpu_user_s", "real", "s", "Time of all processors in programs, and in guests of this machine.", _CPU),
        Field("cpu_nice_s", "real", "s", "The same in programs with a lower priority (nice).", _CPU),
        Field("cpu_system_s", "real", "s", "In the kernel.", _CPU),
        Field("cpu_idle_s", "real", "s", "Idle.", _CPU),
        Field("cpu_iowait_s", "real", "s", "Idle while a task waited for a disk.", _CPU),
        Field("cpu_irq_s", "real", "s", "In interrupts; 0 where the kernel does not measure it.", _CPU),
        Field("cpu_softirq_s", "real", "s", "In soft interrupts.", _CPU),
        Field("cpu_steal_s", "real", "s", "Taken by the hypervisor for other guests; 0 where it does not tell.", _CPU),
        Field("switches_total", "integer", "switches", "Context switches of all processors.", "/proc/stat, line ctxt"),
        Field("load_1m", "real", "", "Load average over one minute.", "/proc/loadavg"),
        Field("psi_cpu_some_us", "integer", "us", "A task waited for a processor; empty without PSI.", _PRESSURE),
        Field("psi_memory_some_us", "integer", "us", "A task waited for memory; empty without PSI.", _PRESSURE),
        Field("psi_memory_full_us", "integer", "us", "All tasks waited for memory; empty without PSI.", _PRESSURE),
        Field("psi_io_some_us", "integer", "us", "A task waited for a disk; empty without PSI.", _PRESSURE),
        Field("psi_io_full_us", "integer", "us", "All tasks waited for a disk; empty without PSI.", _PRESSURE),
        Field(
            "units_cpu_us",
            "integer",
            "us",
            "Processor time of the units of nginx, the upstream and the agent together; empty without control groups "
            "of version 2, and from when one of the units has ended.",
            "cpu.stat, line usage_usec",
        ),
        Field(
            "throttled_us",
            "integer",
            "us",
            "How long cpu.max kept these units, or a group that they are in, from running; empty like units_cpu_us, "
            "and where no such group has the controller cpu.",
            "cpu.stat, line throttled_usec",
        ),
        Field(
            "frequency_mhz",
            "real",
            "MHz",
            "Mean of the processors' frequencies; empty where the kernel does not manage them, as in most guests.",
            "/sys/devices/system/cpu/cpu*/cpufreq/scaling_cur_freq",
        ),
        Field(
            "wall_minus_monotonic_ns",
            "integer",
            "ns",
            "How far the wall clock is ahead of the monotonic clock: constant unless the wall clock is set.",
            f"CLOCK_REALTIME - CLOCK_MONOTONIC, {_MACHINE}",
        ),
        Field(
            "raw_minus_monotonic_ns",
            "integer",
            "ns",
            "How far the raw clock is ahead of the monotonic clock: changes while NTP slews the latter.",
            f"CLOCK_MONOTONIC_RAW - CLOCK_MONOTONIC, {_MACHINE}",
        ),
        REASON,
    ),
)

AGENT = Table(
    "agent",
    "The agent itself: a row for each reading that it made, and every 100 ms one of the source agent for its cost.",
    (
        T_NS,
        Field("source", "text", "", "The table that the reading was for; agent: the agent as a whole.", _AGENT),
        Field("late_ns", "integer", "ns", "How long after its due time the reading began.", _AGENT),
        Field("inside_ns", "integer", "ns", "How long the reading and the writing of its rows took.", _AGENT),
        Field("lost_ticks", "integer", "ticks", "Readings due before this one that were left out: too late.", _AGENT),
        Field("cpu_s", "real", "s", "Processor time since the row before; only of agent.", "CLOCK_PROCESS_CPUTIME_ID"),
        REASON,
    ),
)

_TRACE = "collectors/trace.py"

QUEUE_WAITS = Table(
    "queue_waits",
    "Every connection that came into the upstream's accept queue, traced in the kernel; only with trace=true.",
    (
        Field("t_ns", "integer", "ns", "When it came, on the host's monotonic clock.", _TRACE),
        Field("accepted_ns", "integer", "ns", "When accept() returned it; empty when nobody took it.", _TRACE),
        Field("wait_ns", "integer", "ns", "From the one to the other.", _TRACE),
        Field("reason", "text", "", "Why there is no accept(), or no trace at all.", _TRACE),
    ),
)

_STRACE = "strace"

SYSCALLS = Table(
    "syscalls",
    "Every system call of nginx's processes from their start on, captured by strace, which slows them; only with "
    "strace=true.",
    (
        Field("t_ns", "integer", "ns", "When it began, on the host's monotonic clock; strace knows the µs.", _STRACE),
        Field(
            "role",
            "text",
            "",
            "nginx-master or nginx-worker; what reads the configuration, calls listen() and clones the master is "
            "nginx-master too.",
            "floodmark/verdict/strace.py",
        ),
        Field("pid", "integer", "", "Process id.", _STRACE),
        Field("name", "text", "", "Name of the call.", _STRACE),
        Field("fd", "integer", "", "Its first argument, where that is a descriptor.", _STRACE),
        Field(
            "object",
            "text",
            "",
            "What it acts on: client (a descriptor that accept4() gave), upstream (socket() for a client), listener "
            "(socket() before, and listen()), file (openat()); empty for anything else and for what was open before.",
            "floodmark/verdict/strace.py",
        ),
        Field(
            "client",
            "integer",
            "",
            "Which client it is for, numbered in each process as they were accepted, from 1; what nginx opens is for "
            "the client that it has read from last.",
            "floodmark/verdict/strace.py",
        ),
        Field("arguments", "text", "", "As strace prints them; long ones are cut.", _STRACE),
        Field("result", "integer", "", "What it returned; empty for a call that had not returned.", _STRACE),
        Field("error", "text", "", "Name of the error, such as EAGAIN.", _STRACE),
        Field("took_ns", "integer", "ns", "From its beginning to its return, with what strace adds.", _STRACE),
        Field("reason", "text", "", "Why there is no capture.", "collectors/strace.py"),
    ),
)

_UPSTREAM = "roles/upstream/files/upstream.py"

UPSTREAM_EVENTS = Table(
    "upstream_events",
    "When an upstream with a pause stopped accepting and began again, as it has written down itself.",
    (
        Field("t_ns", "integer", "ns", "When it was, on the host's monotonic clock.", _UPSTREAM),
        Field("listener", "text", "", "Which of the servers behind nginx.", _UPSTREAM),
        Field("event", "text", "", "paused: no accept() from now on; resumed: accept() again.", _UPSTREAM),
    ),
)

GENERATOR_MACHINE = Table(
    "generator_machine",
    "The same as machine of the machines that the flood came from, twice a second. Times are on their own clocks.",
    (
        Field("generator", "integer", "", "Which process of the flood read it, from 0.", "floodmark/loadgen"),
        Field("t_ns", "integer", "ns", "Time of the reading on its own monotonic clock.", "CLOCK_MONOTONIC"),
        *MACHINE.fields[1:],
    ),
)

REQUESTS = Table(
    "requests",
    "Every request of the flood as the client saw it. Times are on the proxy host's monotonic clock.",
    (
        Field("generator", "integer", "", "Which process of the flood sent it, from 0.", "floodmark/loadgen"),
        Field("id", "text", "", "Sent as X-Floodmark-Id, so that nginx logs it too.", "floodmark/loadgen"),
        Field("intended_ns", "integer", "ns", "When the load shape wanted it to start.", "floodmark/loadgen"),
        Field("start_ns", "integer", "ns", "Just before the client connects.", "floodmark/loadgen"),
        Field(
            "connected_ns",
            "integer",
            "ns",
            "The connection stood; empty when it never did, or was there from an earlier request.",
            "floodmark/loadgen",
        ),
        Field("first_byte_ns", "integer", "ns", "The first byte of the answer was read.", "floodmark/loadgen"),
        Field("end_ns", "integer", "ns", "The last byte was read, or the error came.", "floodmark/loadgen"),
        Field("status", "integer", "", "HTTP status; empty when no status line came.", "floodmark/loadgen"),
        Field(
            "error",
            "text",
            "",
            "refused, reset, timeout, closed (no status line), truncated (no end of the body), …; empty when complete.",
            "floodmark/loadgen",
        ),
        Field("detail", "text", "", "The client's own words for the error.", "floodmark/loadgen"),
        Field(
            "body_bytes",
            "integer",
            "bytes",
            "Bytes of the body that came; empty when no status line came.",
            "floodmark/loadgen",
        ),
    ),
)

NGINX_ACCESS = Table(
    "nginx_access",
    "nginx's access log: one row for each request that nginx finished.",
    (
        Field("id", "text", "", "X-Floodmark-Id of the request.", "$http_x_floodmark_id"),
        Field("end_ns", "integer", "ns", "When nginx logged it; nginx knows the millisecond.", "$msec"),
        Field("worker_pid", "integer", "", "The worker that served it.", "$pid"),
        Field("status", "integer", "", "Status sent to the client; 499 when the client left first.", "$status"),
        Field("sent_bytes", "integer", "bytes", "Bytes sent to the client, header included.", "$bytes_sent"),
        Field("request_s", "real", "s", "From the first byte read to the last byte sent.", "$request_time"),
        Field("upstream_connect_s", "real", "s", "Time to connect to the upstream.", "$upstream_connect_time"),
        Field(
            "upstream_header_s",
            "real",
            "s",
            "Time to the upstream's response header.",
            "$upstream_header_time",
        ),
        Field(
            "upstream_response_s",
            "real",
            "s",
            "Time to the end of the upstream's response.",
            "$upstream_response_time",
        ),
        Field("upstream_status", "text", "", "Status that nginx gave the upstream's answer.", "$upstream_status"),
    ),
)

NGINX_ERRORS = Table(
    "nginx_errors",
    "nginx's error log, from level warn upwards, one row for each line.",
    (
        Field("end_ns", "integer", "ns", "When nginx logged it; the log knows the second.", "error.log"),
        Field("level", "text", "", "warn, error, crit, alert or emerg.", "error.log"),
        Field("worker_pid", "integer", "", "The process that logged it.", "error.log"),
        Field("errno", "integer", "", "Error number of the failed call; empty when there was none.", "error.log"),
        Field("message", "text", "", "The message up to what it says of the client.", "error.log"),
    ),
)

_WORKLOADS = "roles/virtual/files/workloads.py"

# Of a run in virtual time, which has no other.
VIRTUAL_WINDOWS = Table(
    "virtual_windows",
    "In virtual time: what was done in each window, and what it cost. A run has either this table or all others.",
    (
        Field("workload", "text", "", "What was done over and over; the case file names it.", _WORKLOADS),
        Field("number", "integer", "", "Number of the window, from 0, for each workload.", _WORKLOADS),
        Field("operations", "integer", "operations", "How often it was done in this window.", _WORKLOADS),
        Field(
            "elapsed_ns",
            "integer",
            "ns",
            "Length of the window in virtual time; where nothing was idle, the number of instructions.",
            "CLOCK_MONOTONIC_RAW",
        ),
        Field("idle_ns", "integer", "ns", "How much of it the processor was idle, in steps of 10 ms.", "/proc/stat"),
        Field(
            "instructions_per_operation",
            "real",
            "instructions",
            "Of client, nginx, upstream and kernel together; empty where the processor was idle.",
            "elapsed_ns / operations",
        ),
        Field(
            "state",
            "text",
            "",
            "steady, or warm-up: what comes before the steady windows.",
            "floodmark/verdict/steady.py",
        ),
    ),
)

SOURCES = (ACCEPT_QUEUE, UNIX_STATES, UPSTREAM_CONNS, STUB_STATUS, PROCESS, TCP_EXT, SOCKET_MEMORY, MACHINE, AGENT)
LOGS = (NGINX_ACCESS, NGINX_ERRORS, UPSTREAM_EVENTS, GENERATOR_MACHINE)
TABLES = {table.name: table for table in (*SOURCES, QUEUE_WAITS, SYSCALLS, *LOGS, REQUESTS)}
