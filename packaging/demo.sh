#!/usr/bin/env bash
# packaging/demo.sh BINARY: the main job before your eyes. A real service in a directory of its own, real programs, real
# kills. Each step says what it shows and then checks it; the first one that does not do what it said ends the demo with
# a failure. Cleans up after itself, however it ends.
set -euo pipefail

binary=$(realpath "${1:?usage: $0 BINARY}")
dir=$(mktemp -d)
export PROVOST_SOCKET=$dir/engine.sock
keeper=

cleanup() {
    local code=$?
    trap - EXIT
    if [ -n "$keeper" ] && kill -TERM "$keeper" 2>/dev/null; then wait "$keeper" || true; fi
    [ "$code" -eq 0 ] || { echo; echo "demo: FAILED (exit code $code)"; sed 's/^/serve: /' "$dir/serve.log" || true; } >&2
    rm -rf "$dir"
    exit "$code"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

provost() { "$binary" "$@"; }

# What a user would type, and what comes back.
show() {
    local word
    printf '$ provost'
    for word in "$@"; do
        case $word in
            *[!A-Za-z0-9_./:=,@%+-]* | '') printf " '%s'" "${word//\'/\'\\\'\'}" ;;
            *) printf ' %s' "$word" ;;
        esac
    done
    printf '\n'
    "$binary" "$@"
}

bold=
plain=
if [ -t 1 ]; then
    bold=$'\033[1m'
    plain=$'\033[0m'
fi
title() { printf '\n%s== %s%s\n' "$bold" "$*" "$plain"; }

fail() {
    echo "demo: $*" >&2
    exit 1
}

# `... --json | field NAME`: the value of a field of a flat JSON object.
field() { sed -n 's/.*"'"$1"'":"\{0,1\}\([^",}]*\).*/\1/p'; }
pid_of() { provost status "$1" --json | field pid; }
engine_pid() { provost version --json | field engine_pid; }

# `eventually WHAT COMMAND...`: the command succeeds within ten seconds.
eventually() {
    local what=$1 end=$((SECONDS + 10))
    shift
    until "$@" > /dev/null 2>&1; do
        [ "$SECONDS" -lt "$end" ] || fail "waited ten seconds in vain until $what"
        sleep 0.02
    done
}

says() { provost output "$1" | grep -q "$2"; }
is() { [ "$(provost status "$1" --json | field "$2")" = "$3" ]; }
happened() { provost events "$1" | grep -q "$2"; }
is_another_engine() { local now; now=$(engine_pid) && [ -n "$now" ] && [ "$now" != "$1" ]; }
answers() {
    python3 -c 'import sys, urllib.request as u; u.urlopen(f"http://127.0.0.1:{sys.argv[1]}/hello.txt", timeout=2)' "$1"
}
is_alive() { grep -q '^State:.*[^ZX] (' "/proc/$1/status" 2> /dev/null; }

title 'A service'
"$binary" serve --state "$dir/state" 2> "$dir/serve.log" &
keeper=$!
eventually 'the service is ready' grep -q 'ready on' "$dir/serve.log"
cat "$dir/serve.log"
show version

title 'Three web servers with one command; it comes back when they run'
echo 'hello' > "$dir/hello.txt"
show start --name web --instances 3 --restart always --cwd "$dir" --wait -- \
    python3 -u -m http.server 0 --bind 127.0.0.1
show list
for n in 1 2 3; do eventually 'it says its port' says "web-$n" 'port [0-9]'; done
port=$(provost output web-1 | sed -n 's/.*port \([0-9]*\).*/\1/p' | head -n 1)
eventually 'it answers' answers "$port"
echo "web-1 answers on port $port, and what it logs is kept:"
eventually 'the request is in its log' says web-1 'GET /hello.txt'
show output web-1 --tail 1

title 'One is killed: it is back under the same identity'
old=$(pid_of web-2)
echo "\$ kill -9 $old"
kill -9 "$old"
eventually 'web-2 runs again' is web-2 run 2
[ "$(pid_of web-2)" != "$old" ] || fail 'web-2 has the pid of the one that was killed'
show why web-2

title 'One that always crashes is not restarted in a frenzy, and says why'
show start --name crash --restart on-failure -- sh -c 'echo "cannot open database" >&2; exit 3'
eventually 'the fourth attempt failed' happened crash 'attempt 4 of 10'
is crash state backoff || fail 'it does not back off'
show why crash
provost why crash | grep -q 'exit code 3' || fail 'the exit code is not told'
provost why crash | grep -q 'cannot open database' || fail 'its last words are not told'
show stop crash

title 'kill -9 of the engine, while a program counts: nothing happens'
show start --name count --output-limit 4m -- \
    python3 -uc 'import time; [(print(n), time.sleep(0.0002)) for n in range(5000)]'
before=$(for name in web-1 web-2 web-3 count; do pid_of "$name"; done)
for round in 1 2 3; do
    engine=$(engine_pid)
    echo "\$ kill -9 $engine    # the engine, number $round"
    kill -9 "$engine"
    eventually 'another engine answers' is_another_engine "$engine"
done
after=$(for name in web-1 web-2 web-3 count; do pid_of "$name"; done)
[ "$before" = "$after" ] || fail "other pids than before: $before / $after"
answers "$port" || fail 'web-1 does not answer any more'
provost wait count --timeout 60s > /dev/null
[ "$(provost output count)" = "$(seq 0 4999)" ] || fail 'the numbers are not all there, each once and in order'
echo 'same pids as before, web-1 answers, and all 5000 numbers are there, each once and in order'
show version

title 'Output as it comes'
show start --name talk -- sh -c 'for n in 1 2 3; do echo "line $n"; sleep 0.1; done; echo "done" >&2'
show stream talk --since start --until-end --prefix > "$dir/stream"
cat "$dir/stream"
[ "$(grep -c 'line [123]' "$dir/stream")" = 3 ] || fail 'the stream has not all lines'

title 'run: like the program itself, exit code included'
code=0
show run --rm -- sh -c 'echo "from inside"; exit 42' || code=$?
echo "exit code $code"
[ "$code" = 42 ] || fail "run ended with $code"

title 'Stop means gone: a stubborn program, and a child of it that left its session'
show start --name stubborn --stop-timeout 500ms -- \
    sh -c 'trap "" TERM; setsid sleep 1001 & echo $!; exec sleep 1000'
eventually 'it tells the pid of its child' says stubborn '[0-9]'
leader=$(pid_of stubborn)
child=$(provost output stubborn)
is_alive "$child" || fail 'the child does not run'
show stop stubborn
! is_alive "$leader" || fail "process $leader is still there"
! is_alive "$child" || fail "process $child is still there"
echo "neither $leader nor $child is there any more"

title 'Answers for scripts'
code=0; show status stubborn || code=$?
echo "exit code $code: it does not run"
[ "$code" = 3 ] || fail "status of a stopped process ended with $code"
code=0; show status nobody || code=$?
echo "exit code $code: there is no such process"
[ "$code" = 4 ] || fail "status of nobody ended with $code"

title 'All web servers are stopped with one command, in parallel'
show stop 'web-*'
! answers "$port" 2>/dev/null || fail 'web-1 still answers'
show list

title 'The end of the service'
kill -TERM "$keeper"
wait "$keeper" || fail "serve ended with $?"
keeper=
cat "$dir/serve.log"
title 'Every step did what it said'
