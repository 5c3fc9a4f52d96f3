//! The help on the options of a process, which the commands that start one share. `spec_options.rs` reads
//! them.

/// Behind the help text of a command that starts a process.
pub const HELP: &str = "
How the process is run:
      --name NAME            Its name, unique: letters, digits and . _ @ -
      --shell                Give what stands behind -- to /bin/sh -c
  -e, --env K=V              Set a variable; may be repeated, later ones win
      --env-file FILE        Set the variables in FILE, one K=V per line, as in a shell: with 'export',
                             quotes and '#' comments
      --clear-env            Begin with an empty environment instead of the service's
      --no-expand            Leave ${VAR} in values as it is
      --cwd DIR              Working directory; else the present one
      --user U               Run as this user, by name or number; it sets HOME, LOGNAME, SHELL, USER
      --group G              ... and this group
      --groups G,..          ... and exactly these supplementary groups
      --umask OCT            File mode creation mask
      --nice N               -20 to 19
      --oom-score-adj N      -1000 to 1000
      --no-new-privs         Set-user-id programs gain nothing
      --sha256 DIGITS        Only if the program's file, given by its path, has this SHA-256
      --landlock-read PATH   It may read and execute what is at and below this path, and reach nothing
                             else, not even to begin; may be repeated
      --landlock-write PATH  ... and also change what is here
      --landlock-optional    Run it also where the kernel cannot see to that
      --limit RES=SOFT[:HARD]  A resource limit, as nofile=1024; may be repeated
      --restart WHEN         never (default), on-failure or always
      --restart-delay D      Before the second restart in a row, doubling from there (100ms)
      --restart-delay-max D  Where the doubling ends (30s)
      --max-restarts N       More within the window: failed (10); none: no limit
      --restart-window D     The window (60s)
      --reset-after D        A run this long was healthy, the delay begins anew (10s)
      --success-codes N,..   Exit codes that are no failure (0)
      --stop-signal SIG      What asks it to end (TERM); several with a time behind each: TERM,10s,INT,5s,KILL
      --stop-timeout D       How long it may take before SIGKILL (10s), or infinity
      --stop-scope S         Whom both reach: tree (default), group, leader, or mixed: it alone is asked, and
                             all that it has started is killed
      --output-limit SIZE    Output that is kept (1m; with run: 16m)
      --merge-streams        Both streams are one pipe, which keeps their order; all is standard output
      --log FILE             Write its output to this file, too: an absolute path, or a name in the service's
                             directory for logs; {name} in it is the process's
      --log-stdout FILE      ... standard output to a file of its own
      --log-stderr FILE      ... standard error to a file of its own
      --log-size SIZE        A file that would be larger is followed by another (50m); none: it grows
      --log-age D            ... one that is older, when there is more to write
      --log-keep N           How many old files stay (5)
      --log-gzip             Compress old files
      --log-format FORMAT    raw (default), time: the time before each line, or json: an object for each
      --log-prefix TEXT      What stands before each line; {name} and {stream} are replaced
      --log-field FIELD      Also in each line of json: id, instance, pid, host or labels; may be repeated
      --log-to RECEIVER      In place of files: syslog (RFC 5424, /dev/log) or journald, a message for each
                             line; with a path for another socket, as syslog:/run/log
      --redact RE            What this regular expression matches in a line of output is replaced by ***
                             before anybody sees it; may be repeated
      --ready-line TEXT      It is ready when a line of its output holds this, of either stream
      --ready-tcp PORT       It is ready when this port of 127.0.0.1 takes connections, and not from
                             one that had it before the process was started
      --ready-notify         ... when it says READY=1 at NOTIFY_SOCKET, as sd_notify(3) does
      --ready-http URL       ... when http://ADDRESS:PORT/PATH answers with 200 to 399
      --ready-exec COMMAND   ... when /bin/sh -c COMMAND ends with 0
      --ready-grpc END       ... when 127.0.0.1:PORT or unix:/PATH says by grpc.health.v1 that it serves;
                             END#SERVICE asks for one of its services
      --ready-exit           ... when it has ended with success: a job that others wait for
      --ready-timeout D      Not ready by then: the run has failed
      --fail-line TEXT       A line of its output with this: the run has failed, at once
      --ready-interval D     Between two probes (50ms, of a command 1s)
      --ready-attempt D      How long one may take (1s)
      --ready-delay D        Before the first one (0s)
      --ready-successes N    So many in a row (1)
      --ready-recheck D      Between two probes from when it is ready on (none)
      --ready-failures N     So many of those in a row: it is ready no more (3)
      --live-tcp PORT        It is well as long as this port takes connections
      --live-http URL        ... as this URL answers with 200 to 399
      --live-exec COMMAND    ... as this ends with 0
      --live-grpc END        ... as this says by gRPC that it serves
      --live-notify          ... as it says WATCHDOG=1 in each interval
      --live-interval D      Between two probes (10s)
      --live-attempt D       How long one may take (1s)
      --live-delay D         From when it is ready to the first one (0s)
      --live-failures N      So many in a row end the run, as a failure (3)
      --requires NAME,..     Start it when these are ready, starting them too, and let it follow when they
                             end; @GROUP is all of a group. May be repeated, as the next two
      --wants NAME,..        ... the same, but also when they fail, and it does not follow
      --after NAME,..        ... when those of these that are being started are ready
      --on-dependency WHAT   When one that it requires ends: restart (default), stop or ignore
      --in-group NAME        The group that it is in: @NAME means all of them
      --schedule WHEN        Run it then, each time once, and not now: five fields of cron, as '0 3 * * *',
                             @every 10m, @hourly, @daily, @weekly, @monthly or @yearly
      --schedule-zone ZONE   The time zone that is meant, as Europe/Berlin (the service's)
      --schedule-overlap W   Where the run before has not ended: forbid (default) the next, or replace it
      --schedule-missed W    What was missed without a service, or by a clock that was set: skip (default),
                             or run it once
      --schedule-jitter D    Each run begins up to so much later, by chance
      --pre-start CMD        Run this before each start, by a shell, as the process runs: user, directory, variables
      --post-start CMD       ... when it is ready, which it counts as after that
      --pre-stop CMD         ... before the signal of a stop or a restart
      --post-stop CMD        ... when nothing is left of a run
      --pre-start-timeout D, --post-start-timeout D, --pre-stop-timeout D, --post-stop-timeout D
                             How long that may take (1m)
      --pre-start-failure W, --post-start-failure W, --pre-stop-failure W, --post-stop-failure W
                             What follows when it fails: the run has failed (fail, default; not for those
                             of a stop), nothing (ignore), or it is tried three times (retry)
      --memory-max SIZE      What would take more memory, with all that it has started, is killed for that: 512m,
                             or 50% of the machine's
      --memory-high SIZE     What takes more is slowed down, and has to give back
      --restart-above SIZE   What holds more is restarted, as if you had asked for it
      --restart-on-oom BOOL  Whether a run that was killed for memory is followed by another (as --restart
                             says)
      --cpu-quota N          So many processors at most, as 1.5 or 150%
      --cpu-weight N         Its share of the processors where others want them too, 1 to 10000 (100)
      --pids-max N           So many processes and threads at most
      --io-weight N          Its share of storage where others want it too, 1 to 10000 (100)
      --limits-optional      Run it also where the machine does not see to these
      --essential            When it has ended for good and nobody has stopped it, the service ends too,
                             with its exit code: for containers
      --forking              It puts itself into the background, and ends with 0 when it has
      --pid-file PATH        ... and this file names the process that goes on there
      --autostart            Start it again with the service, as after a reboot (what has a name)
      --no-autostart         Do not (what has no name)
      --label K=V            Anything to remember; may be repeated
";
