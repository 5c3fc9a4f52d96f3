# What runs in the virtual machine of k_limits_vm.rs, by busybox, as root of that machine.
root=/sys/fs/cgroup
export PROVOST_SOCKET=/run/p.sock

# Begins a service in the cgroup of this name, and waits until it answers.
serve() {
    mkdir -p "$root/$1"
    sh -c "echo \$\$ >$root/$1/cgroup.procs; exec provost serve --state /run/state-$1" 2>"/run/log-$1" &
    service=$!
    until provost list >/dev/null 2>&1; do sleep 0.05; done
}

# Ends it.
end() {
    kill -TERM "$service"
    wait "$service"
    echo "ended: $?"
}

# A field of a process.
field() { provost status --format "{$2}" "$1"; }

# A file of a process's cgroup.
file() { cat "$root"/*/provost-*/"$(field "$1" id)/$2" | sed "s/^/$2: /"; }

# Each line of standard input behind this.
mark() { sed "s/^/$1: /"; }

# Waits until a command holds.
until_holds() {
    rounds=0
    until "$@" >/dev/null 2>&1; do
        rounds=$((rounds + 1))
        if [ $rounds -gt 600 ]; then
            echo "in vain: $*"
            return
        fi
        sleep 0.1
    done
}

has_event() { provost events "$1" | grep "$2"; }

# Holds so many MiB, and lives on.
hold="exec awk -v mib=\$0 'BEGIN {
    while (n < mib) a[n++] = sprintf(\"%1048576s\", n); print \"full\"; fflush(); while ((\"sleep 1000\" | getline) > 0); }'"

echo '== not delegated'
serve poor
provost doctor | mark doctor
provost start --name web --memory-max 64MiB -- sleep 1000 2>&1 | mark start
provost status web 2>&1 | mark status
provost start --name easy --memory-max 64MiB --limits-optional -- sleep 1000 >/dev/null
provost status easy | mark easy
end

# As systemd does with Delegate=yes.
echo '+memory +cpu +pids +io' >$root/cgroup.subtree_control

echo '== shared'
mkdir -p $root/shared
sh -c "echo \$\$ >$root/shared/cgroup.procs; exec sleep 1000" &
stranger=$!
until_holds grep sleep /proc/$stranger/comm
serve shared
provost start --name web --pids-max 10 -- sleep 1000 2>&1 | mark start
kill $stranger
wait $stranger
provost start --name web2 --pids-max 10 -- sleep 1000 >/dev/null && file web2 pids.max
end

serve unit
echo '== doctor'
provost doctor | mark doctor

echo '== memory'
provost start --name greedy --memory-max 64MiB -- sh -c 'sleep 0.5; exec dd if=/dev/zero of=/dev/null bs=200M count=1' >/dev/null
file greedy memory.max
provost status greedy | mark running
provost wait greedy --timeout 60s 2>&1 >/dev/null | cat
provost status greedy | head -n 1 | mark status
provost status greedy --json | mark json
provost why greedy | head -n 1 | mark why
provost history greedy | mark history

echo '== policy'
eat='dd if=/dev/zero of=/dev/null bs=200M count=1'
provost start --name never --memory-max 32m --restart-on-oom true --max-restarts 2 --restart-delay 1ms -- sh -c "exec $eat" >/dev/null
provost start --name always --memory-max 32m --restart always --restart-on-oom false -- sh -c "exec $eat" >/dev/null
provost start --name plain --memory-max 32m --restart on-failure --max-restarts 1 -- sh -c "$eat; exit \$?" >/dev/null
for name in never always plain; do
    provost wait $name --timeout 60s 2>&1 >/dev/null | cat # no progress among the lines
    echo "$name: $(field $name state) after $(field $name run) runs, $(provost status $name | head -n 1)"
done

echo '== child'
provost start --name parent --memory-max 32m -- sh -c "$eat; while :; do sleep 1; done" >/dev/null
until_holds has_event parent oom-killed
provost events parent | mark event
field parent state | mark state

echo '== pids'
three='sleep 1000 & sleep 1000 & sleep 1000 &'
provost start --name fits --pids-max 4 -- sh -c "$three echo all; wait" >/dev/null
until_holds sh -c 'provost output fits | grep all'
file fits pids.max
file fits pids.current
provost start --name forks --pids-max 3 -- sh -c "$three echo all; wait" >/dev/null
provost wait forks --timeout 60s 2>&1 >/dev/null | cat
provost output forks | mark forks

echo '== all'
provost start --name full --memory-max 50% --memory-high 100m --cpu-quota 150% --cpu-weight 20 --io-weight 30 -- sleep 1000 >/dev/null
for name in memory.max memory.high cpu.max cpu.weight io.weight io.bfq.weight; do file full $name 2>/dev/null; done
grep MemTotal /proc/meminfo
provost show full | mark show
provost start --name pair --instances 2 --pids-max 7 -- sleep 1000 >/dev/null
file pair-1 pids.max
file pair-2 pids.max

echo '== in place'
before=$(field full pid)
provost update full --memory-max 200m --cpu-quota 0.5
for name in memory.max cpu.max; do file full $name; done
[ "$before" = "$(field full pid)" ] && echo 'the same run'
provost update full --unset memory_max >/dev/null
file full memory.max
kill -9 "$(provost version --json | sed 's/.*"engine_pid":\([0-9]*\).*/\1/')"
until_holds provost version
file full memory.high
provost status full | mark status

echo '== above'
provost start --name grows --restart-above 48m -- sh -c "$hold" 64 >/dev/null
until_holds has_event grows over-memory
provost events grows | mark event
provost status grows | mark status

echo '== end of unit'
end
find $root -name 'provost*' | mark left
mark subtree <$root/unit/cgroup.subtree_control
mark log </run/log-unit
