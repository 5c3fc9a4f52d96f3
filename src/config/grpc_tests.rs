//! What `[grpc]` and `[remote.NAME]` take, and each of their refusals.

use std::os::unix::fs::PermissionsExt;

use super::tests::{Scratch, refusal};
use super::*;
use crate::access::password::{Hash, Memory, Password};
use crate::gateway::settings::{Limits, UserSource};
use crate::tls::material::Files;
use crate::wire::role::Role;

fn read(text: &str, state: Option<&str>) -> Result<GatewaySettings, Error> {
    let config = parse(Path::new("/etc/provost/provost.toml"), text, state.map(Path::new))?.0;
    Ok(config.grpc.expect("it is in the text"))
}

fn files(dir: &str) -> Files {
    let at = |name: &str| PathBuf::from(format!("{dir}/{name}"));
    Files { certificate: at("server.pem"), key: at("server.key"), ca: at("ca.pem"), crl: None }
}

const LISTEN: &str = "[grpc]\nlisten = '127.0.0.1:7443'\n";

#[test]
fn groups_of_this_machine_have_roles() {
    let roles = |text: &str| {
        let config = parse(Path::new("/x"), &format!("[local.group_roles]\n{text}"), None);
        config.map(|(config, _)| (config.local.group_roles, config.local.unknown_groups))
    };
    let both = roles("root = 'admin'\n61001 = 'viewer'\n").unwrap();
    assert_eq!(both.0.0, [(0, Role::Admin), (61001, Role::Viewer)].into());
    let one = roles("no-such-group = 'viewer'\nroot = 'operator'\n").unwrap();
    assert_eq!(one, (GroupRoles([(0, Role::Operator)].into()), vec!["no-such-group".to_owned()]));
    for (text, why) in [
        ("root = 'boss'", "there is no role 'boss'"),
        ("root = 'viewer'\n0 = 'admin'", "another way to write the same group"),
        ("root = 1", "a string"),
    ] {
        let e = roles(text).unwrap_err();
        assert!(e.message.contains(why) && e.message.contains("line "), "{e}");
    }
}

#[test]
fn little_is_enough() {
    assert_eq!(parse(Path::new("/x"), "", None).unwrap().0.grpc, None);
    let grpc = read(LISTEN, Some("/var/lib/provost")).unwrap();
    assert_eq!(grpc.listen.to_string(), "127.0.0.1:7443");
    assert_eq!(grpc.files, files("/var/lib/provost/certs"));
    assert_eq!(grpc.users, UserSource::File("/var/lib/provost/users".into()));
    assert_eq!((grpc.roles.by_user.len(), grpc.roles.by_certificate.len()), (0, 0));
    assert_eq!(grpc.limits, Limits::default());
    // A service that keeps nothing has no place of its own.
    assert!(
        read(LISTEN, None).unwrap_err().message.contains("[grpc] needs 'certificate', or 'certificates'")
    );
    let e = read(&format!("{LISTEN}certificates = '/c'"), None).unwrap_err();
    assert!(e.message.contains("[grpc] needs 'users'"), "{e}");
}

#[test]
fn every_key_is_read() {
    let text = r#"
        [grpc]
        listen = "[::]:443"
        certificate = "tls/server.pem"
        key = "/secret/server.key"
        ca = "../ca.pem"
        crl = "tls/crl.pem"
        users = "users"
        [grpc.certificate_roles]
        "ops.example" = "operator"
        "spiffe://example/ci" = "viewer"
        [grpc.user_roles]
        ann = "admin"
        [grpc.limits]
        connections = 10
        unauthenticated = 5
        streams = 7
        message_size = "64 MiB"
        handshake = "3s"
        keepalive = "20s"
        stall = "30s"
        grace = "9s"
        [remote.lab]
        host = "lab.example:7443"
        certificate = "c"
        key = "k"
        ca = "a"
    "#;
    let grpc = read(text, Some("/state")).unwrap();
    assert_eq!(
        grpc.files,
        Files {
            certificate: "/etc/provost/tls/server.pem".into(),
            key: "/secret/server.key".into(),
            ca: "/etc/provost/../ca.pem".into(),
            crl: Some("/etc/provost/tls/crl.pem".into()),
        }
    );
    assert_eq!(grpc.users, UserSource::File("/etc/provost/users".into()));
    assert_eq!(grpc.roles.of(&["uri:spiffe://example/ci".into()], "ann"), Some(Role::Viewer));
    assert_eq!(grpc.roles.of(&["dns:ops.example".into()], "ann"), Some(Role::Operator));
    assert_eq!(
        grpc.limits,
        Limits {
            connections: 10,
            connections_each: 10,
            unauthenticated: 5,
            streams: 7,
            message_size: 64 << 20,
            handshake: Duration::from_secs(3),
            keepalive: Duration::from_secs(20),
            stall: Duration::from_secs(30),
            grace: Duration::from_secs(9),
            max_age: None,
        }
    );
    for nobody in ["nobody", "65534"] {
        let e = read(&format!("{LISTEN}user = '{nobody}'"), Some("/state")).unwrap_err();
        assert!(e.message.contains("nobody"), "{e}");
    }
    let own = read(&format!("{LISTEN}user = 'provost'"), Some("/state")).unwrap();
    assert_eq!(own.user.as_deref(), Some("provost"));
    let one = read(&format!("{LISTEN}certificates = 'certs'\nkey = '/k'"), Some("/state")).unwrap();
    assert_eq!(one.files, Files { key: "/k".into(), ..files("/etc/provost/certs") });
}

#[test]
fn a_revocation_list_beside_the_certificates_counts() {
    let scratch = Scratch::new();
    let text = format!("{LISTEN}certificates = '{}'", scratch.0.path().display());
    assert_eq!(read(&text, Some("/state")).unwrap().files.crl, None);
    let list = scratch.file("crl.pem", "", 0o644);
    assert_eq!(read(&text, Some("/state")).unwrap().files.crl, Some(list));
}

#[test]
fn each_refusal_says_what_it_is_about() {
    let refused = |text: &str| refusal(&format!("[grpc]\n{text}"));
    for listen in ["localhost:7443", "7443", "127.0.0.1", ":7443", "127.0.0.1:99999", ""] {
        let (message, hint) = refused(&format!("listen = '{listen}'"));
        assert!(message.contains("'listen' is an address and a port") && hint.contains("127.0.0.1:7443"));
    }
    let (message, _) = refusal("[grpc]\n");
    assert!(message.contains("[grpc] needs 'listen'"), "{message}");
    let all = "listen = '127.0.0.1:1'\ncertificates = '/c'\nusers = '/u'\n";
    for (text, want, in_hint) in [
        ("conections = 1", "unknown key 'conections' in [grpc]", "keys there: listen, certificates"),
        ("[grpc.limits]\nconection = 1", "unknown key 'conection' in [grpc.limits]", "connections"),
        ("[grpc.limits]\nconnections = 0", "'connections' is a whole number from 1 to 100000", ""),
        ("[grpc.limits]\nmessage_size = '1 KiB'", "'message_size' is from 64 KiB to 64 MiB", ""),
        ("[grpc.limits]\nhandshake = '1h'", "'handshake' is from 1s to 2m", ""),
        ("[grpc.user_roles]\nann = 'root'", "there is no role 'root'", "viewer, operator, admin"),
        ("[grpc.user_roles]\n'a b' = 'viewer'", "bad name 'a b'", "letter or a digit"),
        ("[grpc.user_roles]\nann = 1", "'ann' takes a string, not an integer", ""),
        ("[grpc.certificate_roles]\n'' = 'viewer'", "it is no name of a certificate", ""),
        ("[grpc.certificate_roles]\n'ip:x' = 'viewer'", "'x' is not an address", ""),
        ("[grpc.certificate_roles]\n'ops' = 'viewer'\n'dns:ops' = 'admin'", "it has a role already", ""),
        ("[grpc.demo_users]\nann = 'x'", "with 'users' there is no [grpc.demo_users]", ""),
        ("key = ''", "'key' is a path, not ''", ""),
        ("[remote.lab]\nhost = 'lab:1'", "[remote.lab] needs 'certificate'", ""),
        ("[remote.lab]\nhost = 'lab'", "'lab' is not HOST:PORT", "build.example:7443"),
        ("[remote]\nlab = 1", "'lab' takes a table, written [remote.lab], not an integer", ""),
        ("[remote.'a b']", "bad name 'a b'", ""),
    ] {
        let (message, hint) = refused(&format!("{all}{text}"));
        assert!(message.contains(want), "{text}\n {message}");
        assert!(hint.contains(in_hint), "{text}\n {hint}");
    }
    let remote = "[remote.lab]\nhost='l:1'\ncertificate='c'\nkey='k'\nca='a'\n";
    let (message, _) = refusal(&format!("{remote}password_file = 'p'"));
    assert!(message.ends_with("with 'password_file' goes 'user'"), "{message}");
    let (message, _) = refusal(&format!("{remote}pasword_file = 'p'"));
    assert!(message.ends_with("unknown key 'pasword_file' in [remote.lab]"), "{message}");
}

#[test]
fn users_that_everybody_can_read_are_for_the_loopback() {
    let hash = Hash::decoy().unwrap().to_text();
    let demo = |listen: &str, hash: &str| {
        read(&format!("[grpc]\nlisten = '{listen}'\n[grpc.demo_users]\ndemo = '{hash}'"), Some("/state"))
    };
    for listen in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1"] {
        let UserSource::Demo(users) = demo(listen, &hash).unwrap().users else { panic!("{listen}") };
        assert!(users.get("demo").is_some());
    }
    for listen in ["0.0.0.0:1", "192.0.2.1:1", "[::]:1"] {
        assert!(demo(listen, &hash).unwrap_err().message.contains("loopback"), "{listen}");
    }
    let e = demo("127.0.0.1:1", "demo").unwrap_err();
    assert!(e.message.ends_with("it is no hash of Argon2id with m=19456,t=2,p=1"), "{e}");
}

/// J4: who writes the configuration decides who comes in.
#[test]
fn j4_a_file_that_others_can_write() {
    let scratch = Scratch::new();
    let dir = scratch.0.path().join("conf");
    std::fs::create_dir(&dir).unwrap();
    let set = |path: &Path, mode: u32| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    set(&dir, 0o755);
    let load = |path: &Path| super::load(path, Some(Path::new("/state")));
    let path = scratch.file("conf/provost.toml", LISTEN, 0o644);
    assert!(load(&path).is_ok());
    for mode in [0o664, 0o646, 0o666] {
        set(&path, mode);
        let e = load(&path).unwrap_err();
        assert!(e.message.contains(&format!("has mode {mode:04o}")), "{e}");
        assert!((e.code, e.hint.starts_with("chmod go-w ")) == (Code::Refused, true), "{e:?}");
    }
    set(&path, 0o644);
    for mode in [0o775, 0o777] {
        set(&dir, mode);
        assert!(load(&path).unwrap_err().message.contains(&format!("has mode {mode:04o}")));
    }
    set(&dir, 0o1777);
    assert!(load(&path).is_ok());
    set(&dir, 0o755);
    // By way of a link, the file itself counts.
    let link = scratch.0.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    assert!(load(&link).is_ok());
    set(&path, 0o666);
    assert!(load(&link).is_err());
    std::fs::write(&path, "orphans = 'kill'").unwrap();
    assert!(load(&path).is_ok(), "without [grpc] it is as it was");
    if crate::sys::system::euid() == 0 {
        std::fs::write(&path, LISTEN).unwrap();
        set(&path, 0o644);
        std::os::unix::fs::chown(&path, Some(65534), None).unwrap();
        assert!(load(&path).unwrap_err().message.contains("belongs to another user (uid 65534)"));
    }
}

/// The demonstration works from a clone, whatever its owner and mode are; changed in any way it does not.
#[test]
fn the_demonstration_is_taken_as_it_is() {
    let scratch = Scratch::new();
    let path = scratch.file("demo.toml", DEMO, 0o666);
    if crate::sys::system::euid() == 0 {
        std::os::unix::fs::chown(&path, Some(65534), None).unwrap();
    }
    let grpc = load(&path, Some(Path::new("/state"))).unwrap().grpc.unwrap();
    assert!(grpc.listen.ip().is_loopback());
    assert_eq!(grpc.files, files("/state/certs"));
    assert_eq!(grpc.roles.of(&["dns:client.provost".into()], "demo"), Some(Role::Admin));
    let (mut memory, UserSource::Demo(users)) = (Memory::default(), grpc.users) else { panic!("no file") };
    assert!(users.get("demo").unwrap().fits(&Password::offered("demo").unwrap(), &mut memory));
    std::fs::write(&path, format!("{DEMO}\n")).unwrap();
    assert!(load(&path, Some(Path::new("/state"))).unwrap_err().message.contains("others can change"));
}

#[test]
fn a_remote_is_found_in_the_first_file_that_knows_it() {
    let scratch = Scratch::new();
    let of = |name: &str, host: &str| {
        format!("[remote.{name}]\nhost = '{host}:7443'\ncertificate = 'c.pem'\nkey = 'c.key'\nca = '/ca'\n")
    };
    // Things for a service that a client cannot read are no matter.
    let sink =
        "[[sink]]\nkind = 'opensearch'\nurl = 'https://a'\nusername = 'u'\npassword_file = '/no/such'\n";
    let mine = scratch.file("mine.toml", of("lab", "one") + "user = 'ann'\npassword_file = 'pw'\n", 0o600);
    let all = scratch.file("all.toml", of("lab", "two") + &of("build", "three") + sink, 0o644);
    let paths = [mine, all];
    let lab = remote(&paths, "lab").unwrap();
    assert_eq!((lab.host.name.as_str(), lab.host.port), ("one", 7443));
    assert_eq!(lab.files.certificate, scratch.0.path().join("c.pem"));
    assert_eq!((lab.user.as_deref(), lab.password_file), (Some("ann"), Some(scratch.0.path().join("pw"))));
    assert_eq!(remote(&paths, "build").unwrap().host.name, "three");
    let e = remote(&paths, "lob").unwrap_err();
    assert_eq!((e.code, e.message.as_str()), (Code::NotFound, "there is no remote 'lob'"));
    assert_eq!(e.hint, "there are: build, lab");
    assert!(remote(&[], "lab").unwrap_err().hint.contains("[remote.lab]"));
}
