//! Certificates and users, as the commands make them.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::process::{Command, Stdio};

use crate::harness::{Output, SOON, Scratch, binary, cli};

/// A command that needs no service, with a home of its own.
fn provost(scratch: &Scratch, args: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.args(args).env("PROVOST_SOCKET", scratch.file("none.sock"));
    command
}

fn run(scratch: &Scratch, args: &[&str]) -> Output {
    cli::run(provost(scratch, args), SOON)
}

/// The same, with this on standard input.
fn run_with(scratch: &Scratch, args: &[&str], input: &[u8]) -> Output {
    let mut command = provost(scratch, args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let begin = std::time::Instant::now();
    let mut child = command.spawn().expect("it is there");
    // One that does not read all of it has a reason.
    let _ = child.stdin.take().expect("it is a pipe").write_all(input);
    let out = child.wait_with_output().expect("its pipes can be read");
    Output { code: cli::code_of(out.status), stdout: out.stdout, stderr: out.stderr, took: begin.elapsed() }
}

fn mode(path: &str) -> u32 {
    fs::symlink_metadata(path).unwrap_or_else(|e| panic!("{path}: {e}")).mode() & 0o7777
}

fn openssl(args: &[&str]) -> Output {
    let mut command = Command::new("openssl");
    command.args(args);
    cli::run(command, SOON)
}

#[test]
fn certificates_are_made_once_and_stay() {
    let scratch = Scratch::new();
    let dir = scratch.file("deep/certs");
    let at = |name: &str| format!("{dir}/{name}");
    let init = |more: &[&str]| run(&scratch, &[&["cert", "init", "--dir", &dir, "--json"], more].concat());
    let made = init(&["--host", "build.example", "--host", "192.0.2.7"]).expect(0).json();
    let facts: Vec<_> =
        made.iter().map(|m| (m["kind"].as_str().unwrap_or(""), m["done"] == "made")).collect();
    assert_eq!(facts, [("ca", true), ("server", true), ("client", true)]);
    for (name, wanted) in [("ca", 0o600), ("server", 0o600), ("client", 0o600)] {
        assert_eq!((mode(&at(&format!("{name}.key"))), mode(&at(&format!("{name}.pem")))), (wanted, 0o644));
    }
    assert_eq!(mode(&dir), 0o700);
    // To others they are what they are to us.
    for (name, purpose, other) in [("server", "sslserver", "sslclient"), ("client", "sslclient", "sslserver")]
    {
        let file = at(&format!("{name}.pem"));
        let ca = at("ca.pem");
        let verify =
            |purpose: &str| openssl(&["verify", "-x509_strict", "-CAfile", &ca, "-purpose", purpose, &file]);
        verify(purpose).expect(0);
        assert_ne!(verify(other).code, 0, "{name} is good for {other}");
    }
    for (option, name) in
        [("-verify_hostname", "build.example"), ("-verify_ip", "192.0.2.7"), ("-verify_ip", "::1")]
    {
        openssl(&["verify", "-CAfile", &at("ca.pem"), option, name, &at("server.pem")]).expect(0);
    }
    let text = openssl(&["x509", "-in", &at("ca.pem"), "-noout", "-text"]).expect(0).out();
    assert!(text.contains("CA:TRUE, pathlen:0") && text.contains("Certificate Sign, CRL Sign"), "{text}");
    // Again: the same files, byte by byte.
    let all = || -> Vec<_> {
        let mut files: Vec<_> =
            fs::read_dir(&dir).expect("it was made").flatten().map(|e| e.path()).collect();
        files.sort();
        files.iter().map(|file| (file.clone(), fs::read(file).expect("it is ours"))).collect()
    };
    let before = all();
    assert!(init(&[]).expect(0).json().iter().all(|made| made["done"] == "kept"));
    assert_eq!(all(), before);
    // Another client, of the same authority.
    let made = init(&["--client", "ops@example.org", "--days", "3"]).expect(0).json();
    assert_eq!((&made[2]["names"][0], &made[2]["days_left"]), (&"ops@example.org".into(), &2.into()));
    openssl(&["verify", "-CAfile", &at("ca.pem"), &at("ops@example.org.pem")]).expect(0);
    assert_eq!(all().len(), before.len() + 2);
    // What is there is not what is wanted.
    let out = init(&["--host", "other.example"]);
    assert!(out.expect(6).err().contains("is not for 'other.example'"), "{out:?}");
    fs::remove_file(at("ca.key")).expect("it is ours");
    let out = init(&["--client", "third"]);
    assert!(out.expect(6).err().contains("ca.pem' is there, but not"), "{out:?}");
    assert!(!fs::exists(at("third.pem")).expect("it can be told"));
}

#[test]
fn keys_are_not_put_where_others_write() {
    let scratch = Scratch::new();
    let dir = scratch.file("open");
    fs::create_dir(&dir).expect("it is ours");
    fs::set_permissions(&dir, PermissionsExt::from_mode(0o777)).expect("it is ours");
    let out = run(&scratch, &["cert", "init", "--dir", &dir]);
    assert!(out.expect(6).err().contains("chmod 700"), "{out:?}");
    fs::set_permissions(&dir, PermissionsExt::from_mode(0o700)).expect("it is ours");
    // A link in the place of a key leads nowhere.
    symlink(scratch.file("elsewhere"), format!("{dir}/ca.key")).expect("it is ours");
    run(&scratch, &["cert", "init", "--dir", &dir]).expect(6);
    assert!(!fs::exists(scratch.file("elsewhere")).expect("it can be told"));
    fs::remove_file(format!("{dir}/ca.key")).expect("it is ours");
    // Whatever the mask, keys are closed.
    let mut command = Command::new("sh");
    command.args(["-c", "umask 000; exec \"$@\"", "sh"]).arg(binary());
    cli::run(
        {
            command.args(["cert", "init", "--dir", &dir]);
            command
        },
        SOON,
    )
    .expect(0);
    assert_eq!((mode(&format!("{dir}/ca.key")), mode(&format!("{dir}/client.key"))), (0o600, 0o600));
}

#[test]
fn certificates_are_shown_with_their_roles_and_their_end() {
    let scratch = Scratch::new();
    let dir = scratch.file("certs");
    run(&scratch, &["cert", "init", "--dir", &dir]).expect(0);
    run(&scratch, &["cert", "init", "--dir", &dir, "--client", "ops.example"]).expect(0);
    let config = scratch.file("provost.toml");
    let text = "[grpc]\nlisten = '127.0.0.1:1'\ncertificates = 'certs'\nusers = 'users'\n\
                [grpc.certificate_roles]\n'ops.example' = 'operator'\n";
    fs::write(&config, text).expect("it is ours");
    let out = run(&scratch, &["cert", "show", "--dir", &dir, "--config", &config]);
    let lines: Vec<Vec<String>> =
        out.expect(0).out().lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect();
    let facts: Vec<_> = lines.iter().map(|l| (l[0].as_str(), l[3].as_str(), l[5].as_str())).collect();
    assert_eq!(
        facts,
        [("ca", "3651", "-"), ("client", "396", "-"), ("client", "396", "operator"), ("server", "396", "-")]
    );
    assert_eq!(lines[2][1], "ops.example");
    let serial = openssl(&["x509", "-noout", "-serial", "-in", &lines[2][6]]).out();
    assert_eq!(serial, format!("serial={}", lines[2][4]));
    // One that has expired is the answer no.
    let mut params = rcgen::CertificateParams::new(vec!["old.example".to_owned()]).expect("it is a name");
    params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let key = rcgen::KeyPair::generate().expect("there are random numbers");
    let old = scratch.file("old.pem");
    fs::write(&old, params.self_signed(&key).expect("it is complete").pem()).expect("it is ours");
    let shown = run(&scratch, &["cert", "show", "--json", &old]).expect(3).json();
    assert!(shown[0]["days_left"].as_i64().is_some_and(|days| days < 0), "{shown:?}");
    let out = run(&scratch, &["cert", "show", &config]);
    assert!(out.expect(2).err().contains("there is no certificate in it"), "{out:?}");
}

#[test]
fn certificates_are_revoked() {
    let scratch = Scratch::new();
    let dir = scratch.file("certs");
    let at = |name: &str| format!("{dir}/{name}");
    let cert = |args: &[&str]| run(&scratch, &[&["cert"], args, &["--dir", &dir]].concat());
    let is_good = |name: &str| {
        let lists = ["-crl_check", "-CRLfile", &at("crl.pem")];
        openssl(&[&["verify", "-CAfile", &at("ca.pem")], &lists[..], &[&at(name)]].concat()).code == 0
    };
    for client in ["one", "two", "three"] {
        cert(&["init", "--client", client]).expect(0);
    }
    let out = cert(&["revoke", "one", "--json"]);
    assert!(out.err().contains("within a second"), "{out:?}");
    let revoked = &out.expect(0).json()[0];
    assert_eq!((&revoked["done"], &revoked["names"][0]), (&"revoked".into(), &"one".into()));
    assert_eq!(["one.pem", "two.pem", "server.pem"].map(is_good), [false, true, true]);
    let shown = cert(&["show", "--json"]).expect(3).json();
    let are_revoked: Vec<_> = shown.iter().filter(|one| one["revoked"] == true).collect();
    assert!(are_revoked.len() == 1 && are_revoked[0]["names"][0] == "one", "{shown:?}");
    let again = cert(&["init", "--client", "one"]);
    assert!(again.expect(6).err().contains("is revoked"), "{again:?}");
    cert(&["revoke", &at("one.pem"), &at("three.pem")]).expect(0);
    assert_eq!(["one.pem", "two.pem", "three.pem"].map(is_good), [false, true, false]);
    // Lists are not for authorities, nor for what others have signed.
    let before = fs::read(at("crl.pem")).expect("it was made");
    cert(&["revoke", &at("ca.pem")]).expect(6);
    cert(&["revoke", &at("nothing.pem")]).expect(2);
    assert_eq!(fs::read(at("crl.pem")).expect("it is still there"), before);
}

#[test]
fn users_come_and_go() {
    let scratch = Scratch::new();
    let file = scratch.file("users");
    let user = |args: &[&str], input: &str| {
        run_with(&scratch, &[&["user"], args, &["--users", &file]].concat(), input.as_bytes())
    };
    let out = user(&["add", "ann"], "correct horse\n");
    out.expect(0);
    assert!(out.err().contains("[grpc.user_roles] ann = "), "{out:?}");
    assert_eq!(mode(&file), 0o600);
    let first = fs::read_to_string(&file).expect("it is ours");
    assert!(first.starts_with("ann:$argon2id$v=19$m=19456,t=2,p=1$"), "{first}");
    user(&["add", "ann"], "another one\n").expect(6);
    user(&["passwd", "bob"], "correct horse\n").expect(4);
    user(&["remove", "bob"], "").expect(4);
    assert_eq!(fs::read_to_string(&file).expect("it is ours"), first);
    for (input, code) in [("short\n", 2), ("", 2), ("\n", 2), (&*"x".repeat(257), 2), ("correct\0horse\n", 2)]
    {
        user(&["add", "bob"], input).expect(code);
    }
    user(&["add", "b/b"], "correct horse\n").expect(2);
    user(&["add", "bob"], &"x".repeat(256)).expect(0);
    user(&["passwd", "ann"], "battery staple").expect(0);
    let second = fs::read_to_string(&file).expect("it is ours");
    assert_ne!(second.lines().next(), first.lines().next());
    assert_eq!(user(&["list"], "").expect(0).out(), "ann\t-\nbob\t-");
    // Nothing of a password anywhere.
    for out in
        [user(&["add", "eve"], "hunter2 hunter2\n"), user(&["passwd", "eve", "--json"], "hunter2 again\n")]
    {
        assert!(!format!("{out:?}").contains("hunter2"), "{out:?}");
    }
    user(&["remove", "eve"], "").expect(0);
    assert_eq!(fs::read_to_string(&file).expect("it is ours"), second);
    // The configuration knows where they are and what they may do.
    let config = scratch.file("provost.toml");
    let text = "[grpc]\nlisten = '127.0.0.1:1'\ncertificates = 'certs'\nusers = 'users'\n\
                [grpc.user_roles]\nann = 'viewer'\n";
    fs::write(&config, text).expect("it is ours");
    let out = run(&scratch, &["user", "list", "--config", &config, "--json"]);
    let roles: Vec<_> = out.expect(0).json().iter().map(|user| user["role"].clone()).collect();
    assert_eq!(roles, ["viewer".into(), serde_json::Value::Null]);
    // A file that is not what it should be is left alone.
    fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).expect("it is ours");
    assert!(user(&["list"], "").expect(6).err().contains("chmod 600"));
    user(&["remove", "ann"], "").expect(6);
    fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).expect("it is ours");
    let link = scratch.file("link");
    symlink(&file, &link).expect("it is ours");
    run(&scratch, &["user", "remove", "ann", "--users", &link]).expect(6);
    assert_eq!(fs::read_to_string(&file).expect("it is ours"), second);
}

/// A person at a terminal, played by Python: answers what is asked, and tells what the terminal showed and
/// whether it shows what is typed afterwards.
const PERSON: &str = r#"
import fcntl, os, pty, subprocess, sys, termios
answers = sys.argv[2].split("|")
ours, theirs = pty.openpty()
own = lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0)
command = sys.argv[1:2] + sys.argv[3:]
child = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True, preexec_fn=own)
echoes = lambda: bool(termios.tcgetattr(theirs)[3] & termios.ECHO)
shown = b""
for question, answer in zip([b"password of ann: ", b"again: "], answers):
    while question not in shown:
        shown += os.read(ours, 1024)
    assert not echoes(), "it echoes while it asks"
    os.write(ours, answer.encode().decode("unicode_escape").encode())
code = child.wait()
print("echo" if echoes() else "silent")
os.set_blocking(ours, False)
try:
    while True:
        shown += os.read(ours, 65536)
except BlockingIOError:
    pass
print(shown.decode())
sys.exit(code)
"#;

#[test]
fn a_password_is_not_shown() {
    let scratch = Scratch::new();
    let file = scratch.file("users");
    let type_in = |answers: &str| {
        let mut command = Command::new("python3");
        let binary = binary().to_str().expect("its path is text");
        command.args(["-c", PERSON, binary, answers, "user", "add", "ann", "--users", &file]);
        let out = cli::run(command, SOON);
        assert!(out.out().starts_with("echo\n"), "the terminal is as it was: {out:?}");
        assert!(!out.out().contains("horse"), "{out:?}");
        out
    };
    let out = type_in("correct horse\\n|correct horst\\n");
    assert!(out.expect(6).out().contains("two passwords"), "{out:?}");
    // Ctrl-c, at once or in the middle of the second.
    for answers in ["\\x03", "correct horse\\n|corr\\x03"] {
        let out = type_in(answers);
        assert!(out.expect(1).out().contains("nothing is changed"), "{out:?}");
    }
    // The end of input.
    type_in("\\x04").expect(1);
    assert!(!fs::exists(&file).expect("it can be told"));
    let out = type_in("correct horse\\n|correct horse\\n");
    assert!(out.expect(0).out().contains("ann: added"), "{out:?}");
}
