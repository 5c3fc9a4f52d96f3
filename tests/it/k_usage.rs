//! What processes take of the machine: of all that belongs to one, with cgroups and without, and only where
//! somebody asks.

use serde_json::Value;

use crate::harness::{Options, SOON, Service, wait};

/// As the list with its usage shows it.
fn used(service: &Service, name: &str) -> Value {
    let all = service.cli(&["list", "--usage", "--json", name]).expect(0).json();
    all[0]["usage"].clone()
}

#[test]
fn what_a_process_takes_is_that_of_all_it_started() {
    for service in [Service::new(), Options::new().without_cgroups().start()] {
        let burn = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; echo done; sleep 82101";
        let script = format!("exec 7</dev/null; ({burn}) & wait");
        service.start(&["--name", "two", "--", "sh", "-c", &script]);
        service.start(&["--name", "one", "--", "sleep", "82102"]);
        service.cli(&["run", "--name", "gone", "--", "true"]).expect(0);
        wait::until("it has worked", SOON, || service.output("two") == b"done\n");
        let (two, one) = (used(&service, "two"), used(&service, "one"));
        // The shell, and the one below it that becomes the sleep.
        assert_eq!((&two["processes"], &two["threads"]), (&2.into(), &2.into()), "{two}");
        assert_eq!((&one["processes"], &one["cpu_ms"]), (&1.into(), &0.into()), "{one}");
        assert!(two["cpu_ms"].as_u64() > one["cpu_ms"].as_u64(), "{two}");
        assert!(two["memory"].as_u64() > one["memory"].as_u64(), "{two} {one}");
        // Three streams each, and one more that the shells have.
        assert!(two["descriptors"].as_u64() >= Some(8) && one["descriptors"] == 3, "{two} {one}");
        assert_eq!(used(&service, "gone"), Value::Null);
        assert_eq!(service.status_json("one")["usage"], Value::Null, "nobody asked");
        let table = service.ok(&["list", "--usage", "--table"]);
        let header: Vec<_> = table.lines().next().unwrap().split("  ").filter(|s| !s.is_empty()).collect();
        let wanted =
            ["NAME", "STATE", "PID", "CPU TIME", "MEMORY", "PROCS", "THREADS", "FDS", "AGE", "COMMAND"];
        assert_eq!(header.iter().map(|title| title.trim()).collect::<Vec<_>>(), wanted, "{table}");
        let line = service.ok(&["list", "--usage", "one"]);
        let fields: Vec<_> = line.split('\t').collect();
        assert_eq!((fields[7], &fields[9..]), ("0", &["1", "1", "3", "sleep 82102"][..]), "{line}");
        let format = service.ok(&["list", "--usage", "--format", "{name} {usage.processes}", "two"]);
        assert_eq!(format, "two 2");
    }
}
