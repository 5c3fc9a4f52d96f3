#!/bin/sh
# Runs all tests with many more rounds, with cgroups and without, and says by the rows of docs/faults.md what came of it.
#   tests/faults.sh run DIR COMMAND...    runs COMMAND twice, which is to run the tests; its output goes to DIR, the page too
#   tests/faults.sh page ON OFF           the page alone, of such outputs
# Fails when a test has failed. `make faults` calls it.
set -u

# The rows that did not pass, and how many did.
page() {
    echo "$(date -u '+%-d %B %Y'), $(nproc) processors, Linux $(uname -r), user $(id -un), rounds times ${PROVOST_TEST_ROUNDS:-1}:"
    for log in "$1" "$2"; do awk '
        # What a test says for itself stands below its name, after all results.
        /^test .* \.\.\. / { name = $2; sub(/.*::/, "", name); came[name] = "started" }
        /(^| )(ok|FAILED|ignored)$/ && name != "" { came[name] = $NF; name = "" }
        /^---- .* stdout ----$/ { says = $2; sub(/.*::/, "", says) }
        /^(skipped|not run): / && says != "" { why[says] = substr($0, index($0, ":") + 2) }
        FILENAME == ARGV[3] && /^\| [a-l][0-9]+ \|/ {
            split($0, cells, "|"); id = cells[2]; gsub(/ /, "", id)
            count = split(cells[5], named, "`"); bad = ""; rows++
            for (n = 2; n <= count; n += 2) {
                test = named[n]; all++
                if (!(test in came)) bad = bad "not run: `" test "`; "
                else if (came[test] == "ignored") bad = bad "not run: `" test "`; "
                else if (came[test] != "ok") bad = bad "failed: `" test "`; "
                else if (test in why) bad = bad "not runnable here: `" test "` (" why[test] "); "
            }
            if (count < 2) bad = "no test; "
            if (bad == "") passed++
            else lines = lines "| " id " | " substr(bad, 1, length(bad) - 2) " |\n"
        }
        END {
            print ""; print cgroups ": " passed + 0 " of " rows " rows passed" (lines == "" ? "." : ", but for these:")
            if (lines != "") { print ""; print "| id | what came of it |"; print "|---|---|"; printf "%s", lines }
            others = ""
            for (test in came) if (came[test] != "ok" && came[test] != "ignored") others = others "`" test "`, "
            if (others != "") { print ""; print "Failed: " substr(others, 1, length(others) - 2) "." }
        }' cgroups="$([ "$log" = "$1" ] && echo 'With cgroups' || echo 'Without cgroups')" "$log" "$(dirname "$0")/../docs/faults.md"
    done
}

case "${1-}" in
    page) page "$2" "$3" ;;
    run)
        dir=$2; shift 2; code=0
        mkdir -p "$dir"
        for when in auto off; do
            echo "faults: with cgroups $when, into $dir/cgroups-$when.log"
            PROVOST_TEST_CGROUPS=$when "$@" >"$dir/cgroups-$when.log" 2>&1 || code=1
        done
        page "$dir/cgroups-auto.log" "$dir/cgroups-off.log" >"$dir/page.md"
        cat "$dir/page.md"
        exit $code ;;
    *) echo "usage: $0 run DIR COMMAND... | page ON OFF" >&2; exit 2 ;;
esac
