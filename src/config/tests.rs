//! What the configuration takes, and each of its refusals.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use tempfile::TempDir;

use super::*;
use crate::engine::settings::{JsonlSettings, SinkKind};
use crate::wire::field::Effect;
use crate::wire::fields::FIELDS;
use crate::wire::probes::Readiness;

/// A directory of this test's own.
pub(super) struct Scratch(pub(super) TempDir);

impl Scratch {
    pub(super) fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    pub(super) fn file(&self, name: &str, text: impl AsRef<[u8]>, mode: u32) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }
}

fn read(text: &str) -> Result<Config, Error> {
    parse(Path::new("/etc/provost.toml"), text, None).map(|(config, _)| config)
}

/// The refusal's message without the file's name, and its hint.
#[track_caller]
pub(super) fn refusal(text: &str) -> (String, String) {
    let e = read(text).expect_err(text);
    let message = e.message.strip_prefix("'/etc/provost.toml', line ").expect(&e.message).to_owned();
    (message, e.hint)
}

const SEARCH: &str = "[[sink]]\nkind = 'opensearch'\n";

#[test]
fn nothing_is_the_default() {
    assert_eq!(read(""), Ok(Config::default()));
    let history = Config::default().history;
    assert_eq!((history.keep.as_secs(), history.keep_events), (30 * 86_400, 1_000_000));
    assert_eq!(Config::default().orphans, OrphanPolicy::Kill);
}

#[test]
fn every_key_is_read() {
    let scratch = Scratch::new();
    let password = scratch.file("password", "s3cret\n", 0o600);
    let ca = scratch.file("ca.pem", include_str!("../../tests/fixtures/tls/ca.pem"), 0o644);
    let text = format!(
        r#"
        orphans = "adopt"
        [history]
        keep = "7d"
        keep_events = 50_000
        keep_audit = "365d"
        keep_ended = 7
        keep_ended_for = "2d"
        [[sink]]
        kind = "jsonl"
        name = "audit"
        path = "/var/log/provost/events.jsonl"
        max_size = "10 MiB"
        max_files = 3
        [[sink]]
        kind = "opensearch"
        url = "https://search.example:9200/"
        index = "events-1"
        username = "provost"
        password_file = "{}"
        ca_file = "{}"
        batch = 100
        timeout = "2s"
        "#,
        password.display(),
        ca.display()
    );
    let path = scratch.file("provost.toml", text, 0o644);
    let config = load(&path, None).unwrap();
    assert_eq!(config.orphans, OrphanPolicy::Adopt);
    assert_eq!(
        config.history,
        HistorySettings {
            keep: Duration::from_secs(7 * 86_400),
            keep_events: 50_000,
            keep_audit: Duration::from_secs(365 * 86_400),
            keep_ended: 7,
            keep_ended_for: Duration::from_secs(2 * 86_400),
        }
    );
    let [audit, search] = &config.sinks[..] else { panic!("{config:?}") };
    let jsonl =
        JsonlSettings { path: "/var/log/provost/events.jsonl".into(), max_size: 10 << 20, max_files: 3 };
    assert_eq!((audit.name.as_str(), &audit.kind), ("audit", &SinkKind::Jsonl(jsonl)));
    assert_eq!(search.name, "opensearch-2");
    let SinkKind::OpenSearch(search) = &search.kind else { panic!("{search:?}") };
    assert_eq!((search.url.as_str(), search.index.as_str()), ("https://search.example:9200", "events-1"));
    let login = search.login.as_ref().unwrap();
    assert_eq!((login.username.as_str(), login.password.reveal()), ("provost", "s3cret"));
    assert_eq!((search.batch, search.timeout), (100, Duration::from_secs(2)));
    assert!(search.ca.is_some());
    assert!(!format!("{config:?}").contains("s3cret"));
}

#[test]
fn the_service_has_a_section_and_an_older_place_for_one_of_its_keys() {
    let scratch = Scratch::new();
    let write = |text: &str| scratch.file("provost.toml", text, 0o644);
    let path = write("[service]\norphans = 'leave'\ncgroups = 'off'\n");
    assert_eq!(load(&path, None).unwrap().orphans, OrphanPolicy::Leave);
    assert_eq!(cgroups(&path), Some(Cgroups::Off));
    assert_eq!(cgroups(&write("[service]\n")), None);
    let (message, hint) = refusal("orphans = 'kill'\n[service]\norphans = 'kill'\n");
    assert_eq!(message, "2, column 1: 'orphans' stands at the top of the file already");
    assert_eq!(hint, "keep the one in [service]");
    assert_eq!(refusal("[service]\nsocket = 'x'\n").1, "keys there: orphans, cgroups");
}

#[test]
fn an_unknown_key_is_refused_with_its_place_and_the_nearest_one() {
    let (message, hint) = refusal("orphans = 'kill'\n[history]\n  keep_event = 3\n");
    assert_eq!(message, "3, column 3: unknown key 'keep_event' in [history]");
    assert_eq!(hint, "the nearest key there is: keep_events");
    let (message, hint) = refusal("wibble = 1");
    assert_eq!(
        (message.as_str(), hint.as_str()),
        (
            "1, column 1: unknown key 'wibble'",
            "keys there: orphans, service, history, local, sink, grpc, remote, providers, modules, registry, environment, \
             defaults, process"
        )
    );
    // What reads the declarations alone passes over the rest, and has to know of it.
    let others = crate::config::declared::OTHERS.join(", ");
    assert_eq!(hint, format!("keys there: {others}, defaults, process"));
    // A key of another kind of sink is unknown too.
    let (message, _) = refusal("[[sink]]\nkind = 'jsonl'\npath = '/a'\nurl = 'http://a'\n");
    assert_eq!(message, "4, column 1: unknown key 'url' in [[sink]]");
    let (_, hint) = refusal("[[sink]]\nkind = 'jsonl'\npath = '/a'\npassword = 'x'\n");
    assert!(hint.contains("kind, name, path"), "{hint}");
}

#[test]
fn each_bad_value_is_refused_where_it_stands() {
    for (text, want) in [
        ("orphans = 'keep'", "1, column 11: 'orphans' is one of \"adopt\", \"kill\", \"leave\", not 'keep'"),
        ("orphans = 1", "1, column 11: 'orphans' takes a string, not an integer"),
        ("history = 1", "1, column 11: 'history' takes a table, written [history], not an integer"),
        ("sink = 'x'", "1, column 8: 'sink' takes a list of tables, each written [[sink]], not a string"),
        ("sink = [1]", "1, column 9: 'sink' takes a list of tables, each written [[sink]], not an integer"),
        ("[history]\nkeep = '30'", "2, column 8: 'keep' is a duration"),
        ("[history]\nkeep = '30 days'", "2, column 8: 'keep' is a duration"),
        ("[history]\nkeep = '1s'", "2, column 8: 'keep' is from 1m to 3650d"),
        ("[history]\nkeep = '$KEEP'", "2, column 8: 'keep' is a duration"),
        (
            "[history]\nkeep_events = -1",
            "2, column 15: 'keep_events' is a whole number from 1000 to 100000000",
        ),
        (
            "[history]\nkeep_events = 99999999999999999999999999",
            "2, column 15: 'keep_events' is a whole number",
        ),
        ("[history]\nkeep_events = 1.5", "2, column 15: 'keep_events' takes a whole number, not a float"),
        ("[[sink]]\n", "1, column 1: [[sink]] needs 'kind'"),
        ("[[sink]]\nkind = 'kafka'", "2, column 8: 'kind' is one of \"jsonl\", \"opensearch\", not 'kafka'"),
        ("[[sink]]\nkind = 'jsonl'", "1, column 1: [[sink]] needs 'path'"),
        ("[[sink]]\nkind = 'jsonl'\nname = '../x'", "3, column 8: bad name '../x'"),
        ("[[sink]]\nkind = 'jsonl'\npath = 'a'", "3, column 8: 'path' is an absolute path, not 'a'"),
        ("[[sink]]\nkind = 'jsonl'\npath = '/a/'", "1, column 1: [[sink]]: 'path' is to name a file"),
        ("[[sink]]\nkind = 'jsonl'\npath = '/a'\nmax_size = '1 MB'", "4, column 12: 'max_size' is a size"),
        (
            "[[sink]]\nkind = 'jsonl'\npath = '/a'\nmax_size = '1'",
            "4, column 12: 'max_size' is from 4 KiB to 1024 GiB",
        ),
        ("[[sink]]\nkind = 'jsonl'\npath = '/a'\nmax_size = 5", "4, column 12: 'max_size' takes a size"),
        (
            "[[sink]]\nkind = 'jsonl'\npath = '/a'\nmax_files = 0",
            "4, column 13: 'max_files' is a whole number from 1",
        ),
        ("a = 1\na = 2", "2, column 1: duplicate key"),
        ("a = ", "1, column "),
    ] {
        let (message, _) = refusal(text);
        assert!(message.starts_with(want), "{text}\n {message}");
    }
}

#[test]
fn each_bad_search_engine_is_refused() {
    for (line, want) in [
        ("", "needs 'url'"),
        ("url = 'search:9200'", "bad 'url'"),
        ("url = 'ftp://a'", "bad 'url': it is written http://HOST:PORT"),
        ("url = 'https://u:p@a'", "a password does not belong there"),
        ("url = 'https://a?x=1'", "without a query"),
        ("url = 'https://a'\nindex = 'Events'", "bad 'index' 'Events'"),
        ("url = 'https://a'\nindex = '../x'", "bad 'index'"),
        ("url = 'https://a'\nusername = 'u'", "with 'username' goes 'password_file'"),
        ("url = 'https://a'\npassword_file = '/p'", "with 'password_file' goes 'username'"),
        ("url = 'https://a'\nusername = 'a:b'\npassword_file = '/p'", "holds no colon"),
        ("url = 'https://a'\nusername = 'u'\npassword_file = '/no/such'", "No such file"),
        ("url = 'https://a'\nusername = 'u'\npassword_file = '/'", "not a regular file"),
        ("url = 'https://a'\nca_file = '/dev/null'", "not a regular file"),
        ("url = 'https://a'\nbatch = 0", "'batch' is a whole number from 1 to 10000"),
        ("url = 'https://a'\ntimeout = '1ms'", "'timeout' is from 100ms to 5m"),
    ] {
        let (message, _) = refusal(&format!("{SEARCH}{line}"));
        assert!(message.contains(want), "{line}\n {message}");
    }
}

#[test]
fn passwords_are_kept_from_others_and_from_the_network() {
    let scratch = Scratch::new();
    let with = |url: &str, path: &Path| {
        read(&format!("{SEARCH}url = '{url}'\nusername = 'u'\npassword_file = '{}'", path.display()))
    };
    let good = scratch.file("good", "x", 0o400);
    assert!(with("https://a", &good).is_ok());
    assert!(with("http://127.0.0.1:9200", &good).is_ok());
    assert!(with("http://[::1]:9200", &good).is_ok());
    let e = with("http://a", &good).unwrap_err();
    assert!(e.message.contains("clear text"), "{e}");
    for mode in [0o640, 0o604, 0o660] {
        let e = with("https://a", &scratch.file("open", "x", mode)).unwrap_err();
        assert!(e.message.contains("chmod 600"), "{e}");
    }
    for text in ["", "\n", "a\nb\n", "a\u{0}"] {
        let e = with("https://a", &scratch.file("odd", text, 0o600)).unwrap_err();
        assert!(e.message.contains("on one line"), "{text:?}: {e}");
    }
    let e = with("https://a", &scratch.file("binary", [0xff, 0xfe], 0o600)).unwrap_err();
    assert!(e.message.contains("not text"), "{e}");
    let e = with("https://a", &scratch.file("long", "x".repeat(5000), 0o600)).unwrap_err();
    assert!(e.message.contains("larger than"), "{e}");
}

#[test]
fn names_and_paths_are_unique_and_sinks_are_few() {
    let sink =
        |name: &str, path: &str| format!("[[sink]]\nkind = 'jsonl'\nname = '{name}'\npath = '{path}'\n");
    let (message, _) = refusal(&(sink("a", "/a") + &sink("a", "/b")));
    assert!(message.ends_with("there is another sink with the name 'a'"), "{message}");
    let (message, _) = refusal(&(sink("a", "/a") + &sink("b", "/a")));
    assert!(message.ends_with("another sink writes to '/a' already"), "{message}");
    let many: String = (0..17).map(|n| sink(&format!("a{n}"), &format!("/{n}"))).collect();
    let (message, _) = refusal(&many);
    assert!(message.contains("at most 16"), "{message}");
}

/// F7, F8: depth, length, and what is no text.
#[test]
fn a_hostile_file_is_refused() {
    let deep = format!("a = {}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(read(&deep).is_err());
    let deep = format!("a = {}1", "{a = ".repeat(100_000));
    assert!(read(&deep).is_err());
    let deep = format!("{}a = 1", "a.".repeat(100_000));
    assert!(read(&deep).is_err());
    let scratch = Scratch::new();
    let long = scratch.file("long", format!("# {}", "x".repeat(1 << 20)), 0o600);
    let e = load(&long, None).unwrap_err();
    assert!(e.message.contains("larger than 1048576 bytes"), "{e}");
    let e = load(&scratch.file("latin1", b"# caf\xe9", 0o600), None).unwrap_err();
    assert!(e.message.contains("byte 5"), "{e}");
    let e = load(scratch.0.path(), None).unwrap_err();
    assert!(e.message.contains("not a regular file"), "{e}");
    let e = load(Path::new("/no/such"), None).unwrap_err();
    assert!(e.message.contains("No such file") && !e.hint.is_empty(), "{e}");
}

/// The example of docs/config.md is one, and every key there is has its line in the tables.
#[test]
fn the_reference_has_every_field_of_a_process() {
    let docs = include_str!("../../docs/config.md");
    for field in FIELDS {
        let change = match field.effect {
            Effect::InPlace => "in place",
            Effect::NextRun => "restart",
            Effect::Never => "replaced",
        };
        let begin = format!("| `{}` | {} | ", field.key, field.takes);
        let row =
            docs.lines().find(|line| line.starts_with(&begin)).unwrap_or_else(|| panic!("no row {begin}"));
        assert!(row.ends_with(&format!(" | {change} |")), "{row}");
    }
    let (_, rest) = docs.split_once("```toml\n[defaults]").unwrap();
    let (example, _) = rest.split_once("```").unwrap();
    let declared = read(&format!("[defaults]{example}")).unwrap().processes;
    let [web, worker] = &declared[..] else { panic!("{declared:?}") };
    assert_eq!(web.spec.env[0], ("TZ".to_owned(), "UTC".to_owned()));
    assert_eq!(
        worker.names().iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
        ["worker-1", "worker-2", "worker-3"]
    );
}

#[test]
fn processes_are_declared_with_defaults() {
    let config = read(
        "[defaults]\nnice = 3\nready_line = 'up'\nenv = { B = '1', A = '${B}' }\n\
         [process.z]\ncommand = ['z']\nenv = { A = '2', C = '3' }\nready_tcp = 80\n\
         [process.a]\ncommand = ['a', '$HOME']\nnice = 0\n",
    );
    let all = config.unwrap().processes;
    let [z, a] = &all[..] else { panic!("{all:?}") };
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    // In the order of the file: a variable may need those before it.
    assert_eq!(z.spec.env, [pair("B", "1"), pair("A", "2"), pair("C", "3")]);
    assert_eq!((z.spec.nice, a.spec.nice), (Some(3), Some(0)));
    assert_eq!(
        (&z.spec.ready, &a.spec.ready),
        (&Some(Readiness::Tcp(80)), &Some(Readiness::Line("up".into())))
    );
    assert_eq!(a.spec.command, ["a", "$HOME"]);
}

#[test]
fn a_log_of_another_kind_takes_the_place_of_that_of_the_defaults() {
    let logs = |defaults: &str| {
        let text = format!(
            "[defaults]\n{defaults}\n[process.a]\ncommand = ['a']\nlog = '/a.log'\n\
             [process.b]\ncommand = ['b']\nlog_to = 'journald'\n[process.c]\ncommand = ['c']\n"
        );
        let all = read(&text).unwrap().processes;
        all.iter().map(|d| (d.spec.log.file.clone(), d.spec.log.to.clone())).collect::<Vec<_>>()
    };
    let (file, to) = (|path: &str| (Some(path.to_owned()), None), |to: &str| (None, Some(to.to_owned())));
    assert_eq!(logs("log = '/all.log'\nlog_keep = 2"), [file("/a.log"), to("journald"), file("/all.log")]);
    assert_eq!(logs("log_to = 'syslog'"), [file("/a.log"), to("journald"), to("syslog")]);
    let both = read("[process.a]\ncommand = ['a']\nlog = '/a.log'\nlog_to = 'syslog'\n").unwrap_err();
    assert!(both.message.contains("there is a file for them"), "{both}");
}

#[test]
fn each_bad_process_is_refused_where_it_stands() {
    for (text, want) in [
        ("[process.web]\ncommad = ['a']", "2, column 1: unknown key 'commad' in [process.web]"),
        ("[process.web]\ncommand = 'a b'", "2, column 11: 'command' takes a list of strings"),
        (
            "[process.web]\ncommand = ['a']\nnice = 90",
            "3, column 8: 'nice' takes a whole number from -20 to 19",
        ),
        ("[process.web]", "1, column 1: [process.web] needs 'command'"),
        (
            "[process.web]\ncommand = ['a']\ncwd = 'here'",
            "3, column 7: [process.web]: working directory 'here'",
        ),
        (
            "[process.web]\nschedule = '61 * * * *'\ncommand = ['a']",
            "2, column 12: [process.web]: the schedule '61 * * * *' cannot be read",
        ),
        (
            "[defaults]\ncwd = 'here'\n[process.web]\ncommand = ['a']",
            "3, column 1: [process.web]: working directory 'here'",
        ),
        ("[process.'a b']\ncommand = ['a']", "1, column 10: bad name 'a b'"),
        ("[process.'provost.x']\ncommand = ['a']", "1, column 10: 'provost.x' is a name for"),
        (
            "[process.web]\ncommand = ['a']\ninstances = 0",
            "3, column 13: 'instances' is a whole number from 1",
        ),
        (
            "[process.web]\ncommand = ['a']\ninstances = 2\n[process.web-2]\ncommand = ['a']",
            "4, column 1: a process web-2 is declared twice: see '/etc/provost.toml', line 1, column 1",
        ),
        ("[process]\nweb = 1", "2, column 7: 'web' takes a table, written [process.web]"),
        ("[defaults]\ncommand = ['a']", "2, column 1: unknown key 'command' in [defaults]"),
        (
            "[process.web]\ncommand = ['a']\nready_tcp = 1\nready_line = 'x'",
            "3, column 13: 'ready_tcp' takes",
        ),
    ] {
        let (message, _) = refusal(text);
        assert!(message.starts_with(want), "{text}\n {message}");
    }
}

/// Such a service begins all the same: it has other processes.
#[test]
fn a_time_zone_without_data_is_refused_to_who_applies_it() {
    let scratch = Scratch::new();
    let text = "[process.web]\ncommand = ['a']\nschedule = '@daily'\nschedule_zone = 'Mars/Olympus'\n";
    let main = scratch.file("provost.toml", text, 0o644);
    let refused = processes(&main).unwrap_err().message;
    assert!(
        refused.contains(
            "line 4, column 17: [process.web]: this host has no data for a time zone 'Mars/Olympus'"
        ),
        "{refused}"
    );
    assert_eq!(load(&main, None).unwrap().processes.len(), 1);
}

#[test]
fn files_beside_the_configuration_declare_processes() {
    let scratch = Scratch::new();
    let main = scratch.file("provost.toml", "[defaults]\nnice = 1\n[process.a]\ncommand = ['a']\n", 0o644);
    let dir = scratch.0.path().join("conf.d");
    fs::create_dir(&dir).unwrap();
    scratch.file("conf.d/2.toml", "[process.c]\ncommand = ['c']\n", 0o644);
    scratch.file("conf.d/1.toml", "[process.b]\ncommand = ['b']\n", 0o644);
    scratch.file("conf.d/.3.toml", "nonsense", 0o644);
    let names = |path: &Path| {
        let all = processes(path)?;
        assert!(all.iter().all(|d| d.spec.nice == Some(1)));
        Ok::<_, Error>(
            all.iter().map(|d| d.spec.name.clone().unwrap().as_str().to_owned()).collect::<Vec<_>>(),
        )
    };
    assert_eq!(names(&main).unwrap(), ["a", "b", "c"]);
    assert_eq!(load(&main, None).unwrap().processes.len(), 3);
    // A directory is read as a whole.
    assert_eq!(names(scratch.0.path()).unwrap(), ["a"]);
    let again = scratch.file("conf.d/4.toml", "[process.a]\ncommand = ['a']\n", 0o644);
    assert!(names(&main).unwrap_err().message.contains("a process a is declared twice"));
    fs::write(&again, "[history]\n").unwrap();
    assert!(names(&main).unwrap_err().message.contains("unknown key 'history'"));
    fs::remove_file(again).unwrap();
    scratch.file("conf.d/1.toml", "[process.b]\ncommand = ['b']\n", 0o666);
    for e in [load(&main, None).unwrap_err(), check_writers(&main).unwrap_err()] {
        assert!(e.message.contains("others can change the configuration"), "{e}");
    }
    fs::remove_file(dir.join("1.toml")).unwrap();
    assert_eq!(check_writers(&main), Ok(()));
    std::os::unix::fs::symlink("/no/such.toml", dir.join("5.toml")).unwrap();
    assert!(names(&main).unwrap_err().hint.contains("a link to '/no/such.toml', which is not there"));
}

/// Who may write to any directory above a file can put another one there.
#[test]
fn what_is_executed_is_declared_where_nobody_else_can_put_a_file() {
    let scratch = Scratch::new();
    fs::create_dir_all(scratch.0.path().join("etc/conf.d")).unwrap();
    let main = scratch.file("etc/provost.toml", "", 0o644);
    scratch.file("etc/conf.d/1.toml", "[process.b]\ncommand = ['b']\n", 0o644);
    assert_eq!(load(&main, None).unwrap().processes.len(), 1);
    fs::set_permissions(scratch.0.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let e = load(&main, None).unwrap_err();
    assert!(e.message.contains("has mode 0777") && e.hint.starts_with("chmod go-w"), "{e:?}");
}

#[test]
fn the_documentation_agrees() {
    let docs = include_str!("../../docs/config.md");
    let (_, rest) = docs.split_once("```toml\n").unwrap();
    let (example, _) = rest.split_once("```").unwrap();
    let scratch = Scratch::new();
    let password = scratch.file("password", "x", 0o600);
    let ca = scratch.file("ca.pem", include_str!("../../tests/fixtures/tls/ca.pem"), 0o644);
    let example = example
        .replace("/etc/provost/opensearch.password", &password.display().to_string())
        .replace("/etc/provost/ca.pem", &ca.display().to_string());
    let config = read(&example).unwrap();
    assert_eq!(
        (config.sinks.len(), config.orphans, config.history),
        (2, OrphanPolicy::Kill, Config::default().history)
    );
    // What is unknown is answered with all that is known there.
    let grpc = "[grpc]\nlisten = '127.0.0.1:1'\ncertificates = '/c'\nusers = '/u'\n";
    let remote = "[remote.lab]\nhost = 'l:1'\ncertificate = 'c'\nkey = 'k'\nca = 'a'\n";
    for section in [
        "",
        grpc,
        &format!("{grpc}[grpc.limits]\n"),
        remote,
        "[history]\n",
        "[providers.app]\nbinary = 'files'\n",
        "[modules]\n",
        "[local]\n",
        "[[sink]]\nkind = 'jsonl'\npath = '/a'\n",
        &format!("{SEARCH}url = 'http://a'\n"),
    ] {
        let (_, hint) = refusal(&format!("{section}wibble = 1"));
        let keys = hint.strip_prefix("keys there: ").unwrap();
        for key in keys.split(", ") {
            let is_there = [
                format!("| `{key}` |"),
                format!("## `[{key}]`"),
                format!("## `[[{key}]]`"),
                format!("## `[grpc.{key}]`"),
                format!("## `[local.{key}]`"),
                format!("## `[modules.{key}]`"),
                format!("## `[{key}.NAME]`"),
            ];
            assert!(is_there.iter().any(|form| docs.contains(form.as_str())), "{key}");
        }
    }
}

/// The parser gives up long before the stack does.
#[test]
fn f7_nesting_without_end_is_refused() {
    for (open, close) in [("[", "]"), ("{ a = ", " }")] {
        let depth = 100_000;
        let text = format!("x = {}1{}", open.repeat(depth), close.repeat(depth));
        let (message, _) = refusal(&text);
        assert!(message.starts_with("1, column "), "{message}");
    }
    let dotted = format!("{}x = 1", "a.".repeat(100_000));
    assert!(refusal(&dotted).0.starts_with("1, column "));
}

#[test]
fn f8_what_is_doubled_or_huge_or_no_text_is_refused() {
    for (text, place) in [
        ("orphans = 'kill'\norphans = 'kill'", "2, column 1"),
        ("[history]\nkeep = '1d'\n[history]\n", "3, column "),
        ("[process.a]\ncommand = ['a']\n[process.a]\ncommand = ['b']", "3, column "),
        ("[history]\nkeep_events = 99999999999999999999999999", "2, column "),
        ("[history]\nkeep_events = -1", "2, column "),
        ("[process.a]\ncommand = ['a']\nready_tcp = 18446744073709551617", "3, column "),
        ("[process.a]\ncommand = [\"a\\u0000b\"]", "2, column 11"),
        ("x = \"\\ud800\"", "1, column "),
    ] {
        let (message, _) = refusal(text);
        assert!(message.starts_with(place), "{text}: {message}");
    }
    let scratch = Scratch::new();
    let bad = scratch.file("provost.toml", b"orphans = '\xff'", 0o600);
    assert!(load(&bad, None).unwrap_err().message.contains("is not UTF-8 text: byte 11"));
}
