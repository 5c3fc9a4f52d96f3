//! `provost cert`: certificates for a service and its clients, from an authority of one's own.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf, absolute};

use serde_json::{Value, json};

use crate::cli::arguments::Arguments;
use crate::cli::command::{Command, job};
use crate::cli::json;
use crate::cli::manual::Positional;
use crate::cli::session::Session;
use crate::cli::state;
use crate::cli::stdout;
use crate::cli::text;
use crate::cli::user::FOLLOWS;
use crate::config;
use crate::sys::files;
use crate::sys::system::try_lock;
use crate::tls::identity::{self, Described, describe};
use crate::tls::issue::{Authority, Issued, Usage};
use crate::wire::error::{Code, Error};
use crate::wire::id::{Name, quoted};
use crate::wire::role::Role;
use crate::wire::time::Timestamp;

/// The largest file that is read, in bytes.
const FILE_LEN_MAX: u64 = 1 << 20;
/// The largest list of the revoked, in bytes.
const LIST_LEN_MAX: u64 = 16 << 20;
/// The name of the first client.
const CLIENT: &str = "client.provost";
/// A little more than a year.
const DAYS: u64 = 397;
const DAYS_MAX: u64 = 3650;
const DAY_MS: u64 = 86_400_000;
/// What is told of a certificate that is new.
const MADE: &str = "made";
/// Names that a client cannot have, because its files would overwrite others.
const TAKEN: [&str; 3] = ["ca", "server", "crl"];

pub const COMMAND: Command = Command::new("cert", SUMMARY, HELP, |arguments| job(parse(arguments)?, run))
    .destroys()
    .takes(Positional::OneOf(&["init", "show", "revoke"]));
const SUMMARY: &str = "Make certificates for gRPC, or show them";
const HELP: &str = "\
Usage: provost cert init [--dir DIR] [--host NAME]... [--client NAME] [--days N]
       provost cert show [--dir DIR] [--config FILE] [FILE...]
       provost cert revoke [--dir DIR] FILE|CLIENT...

init makes an authority (ca.pem, ca.key), a certificate of the service (server.pem, server.key) and one
of a client (client.pem, client.key). What is there stays as it is; with another --client, the same
authority makes another certificate. ca.key signs whatever its reader wants: keep it, or take it away.
show tells of certificates, or of all in the directory, and exits with 3 when one is not valid now.
revoke puts certificates on the list of the revoked (crl.pem) of the authority in the directory; which one
is meant says its file, or the client's name. A gateway that runs follows within a second.
Fields in a pipe: made|kept|revoked, kind, names, end, file; of show: kind, names, end, days left or
'revoked', serial, role, file.

Options:
      --dir DIR              Where (certs in the directory of the service's state)
      --state DIR            The state directory (that of the service at the socket)
      --host NAME            A name or an address of the service, besides localhost and this machine's
      --client NAME          The client's name (client.provost; others are in NAME.pem and NAME.key)
      --days N               How long they are valid, 1 to 3650 (397); the authority: 10 years
      --config FILE          show: the role that each name has there (that of the service at the socket)

Examples:
  provost cert init --host web.example.org
  provost cert init --client ann.example.org
  provost cert show
";

#[derive(Debug, PartialEq, Eq)]
enum CertArgs {
    Init { dir: Option<PathBuf>, hosts: Vec<String>, client: String, days: u64 },
    Show { dir: Option<PathBuf>, config: Option<PathBuf>, files: Vec<PathBuf> },
    Revoke { dir: Option<PathBuf>, files: Vec<PathBuf> },
}

fn parse(arguments: &mut Arguments) -> Result<CertArgs, Error> {
    let (mut dir, mut config, mut hosts, mut client, mut days) = (None, None, Vec::new(), None, None);
    let mut state = None;
    while let Some(option) = arguments.next_option()? {
        match option.as_str() {
            "--dir" => dir = Some(PathBuf::from(arguments.value(&option)?)),
            "--state" => state = Some(PathBuf::from(arguments.value(&option)?)),
            "--config" => config = Some(PathBuf::from(arguments.value(&option)?)),
            "--host" => hosts.push(arguments.value(&option)?),
            "--client" => client = Some(arguments.value(&option)?),
            "--days" => days = Some(arguments.number::<u64>(&option)?),
            _ => return Err(arguments.unknown(&option)),
        }
    }
    let dir = dir.or_else(|| state.map(|state| state.join("certs")));
    let verb = arguments.next_value();
    let files = |arguments: &mut Arguments| arguments.values().into_iter().map(PathBuf::from).collect();
    match verb.as_deref() {
        Some("init") => {
            let client = client.unwrap_or_else(|| CLIENT.to_owned());
            client.parse::<Name>()?;
            let days = days.unwrap_or(DAYS);
            arguments.no_values()?;
            if config.is_some() {
                return Err(arguments.usage("'cert init' has no option --config".into()));
            }
            if TAKEN.contains(&client.as_str()) {
                return Err(Error::usage(format!("a client cannot be called {client}"))
                    .hint("files of this name are those of others"));
            }
            if !(1..=DAYS_MAX).contains(&days) {
                return Err(Error::usage(format!("{days} days are outside 1 to {DAYS_MAX}")));
            }
            Ok(CertArgs::Init { dir, hosts, client, days })
        }
        Some("show" | "revoke") if !hosts.is_empty() || client.is_some() || days.is_some() => {
            Err(arguments.usage("--host, --client and --days belong to 'cert init'".into()))
        }
        Some("show") => Ok(CertArgs::Show { dir, config, files: files(arguments) }),
        Some("revoke") if config.is_some() => {
            Err(arguments.usage("'cert revoke' has no option --config".into()))
        }
        Some("revoke") => {
            let files: Vec<_> = files(arguments);
            if files.is_empty() && !arguments.shared.help {
                return Err(Error::usage("'cert revoke' needs a certificate")
                    .hint("its file, or the name of the client: provost cert revoke ann"));
            }
            Ok(CertArgs::Revoke { dir, files })
        }
        Some(other) => {
            let e = Error::usage(format!("there is no 'provost cert {}'", quoted(other).trim_matches('\'')));
            Err(e.hint(
                "'provost cert show' lists them, 'init' makes some, 'revoke' ends one: 'provost help cert'",
            ))
        }
        None if arguments.shared.help => Ok(CertArgs::Show { dir, config, files: Vec::new() }),
        None => Err(arguments.usage("'provost cert' needs init, show or revoke".into())),
    }
}

fn run(args: CertArgs, session: &mut Session) -> Result<u8, Error> {
    match args {
        CertArgs::Init { dir, hosts, client, days } => {
            let dir = find_directory(dir, session)?;
            let made = init(&dir, &hosts, &client, days, Timestamp::now())?;
            report_made(&made, session);
            if !session.is_json() {
                // Certificates of another directory are none of what it lets in.
                let own = own_roles(session).ok().flatten().filter(|own| files::is_same(&own.dir, &dir));
                let roles = own.map(|own| own.roles);
                let of_client = roles.as_ref().zip(made.last());
                let role = of_client.and_then(|(roles, client)| role(&client.described, roles));
                next_steps(&dir, &client, roles.is_some(), role);
                if roles.is_some() && made.iter().any(|made| made.what == MADE && made.described.server) {
                    stdout::notice(FOLLOWS);
                }
            }
            Ok(0)
        }
        CertArgs::Revoke { dir, files } => {
            let revoked = revoke(&find_directory(dir, session)?, &files, Timestamp::now())?;
            report_made(&revoked, session);
            Ok(0)
        }
        CertArgs::Show { dir, config, files } => {
            let files = if files.is_empty() { all_in(&find_directory(dir, session)?)? } else { files };
            let roles = match config {
                Some(config) => Some(roles(&config, session)?),
                None => own_roles(session)
                    .unwrap_or_else(|e| {
                        stdout::notice(&format!("roles are not shown: {}", e.message));
                        None
                    })
                    .map(|own| own.roles),
            };
            show(&files, roles.as_ref(), session)
        }
    }
}

/// The directory that was named, or the usual one.
fn find_directory(dir: Option<PathBuf>, session: &Session) -> Result<PathBuf, Error> {
    let dir = match dir {
        Some(dir) => dir,
        None => state_directory(session)?.join("certs"),
    };
    absolute(&dir).map_err(|e| cannot("use", &dir, &e))
}

/// That of the service that is addressed.
fn state_directory(session: &Session) -> Result<PathBuf, Error> {
    state::directory_of(&session.socket()?)
}

/// A certificate, and what became of it.
struct Made {
    what: &'static str,
    described: Described,
    file: PathBuf,
}

fn init(dir: &Path, hosts: &[String], client: &str, days: u64, now: Timestamp) -> Result<Vec<Made>, Error> {
    directory(dir)?;
    let server = server_names(hosts);
    let stem = if client == CLIENT { "client" } else { client };
    // Before anything is made: what is there has to be what is wanted.
    expect_names(dir, "server", hosts)?;
    expect_names(dir, stem, &[client.to_owned()])?;
    let mut made = Vec::new();
    let mut note = |is_new, stem: &str| -> Result<(), Error> {
        let file = dir.join(format!("{stem}.pem"));
        let described = read(&file)?.swap_remove(0);
        made.push(Made { what: if is_new { MADE } else { "kept" }, described, file });
        Ok(())
    };
    let is_new = !is_there(dir, "ca")?;
    let authority = if is_new {
        let (authority, issued) = Authority::new(&format!("provost CA of {}", hostname()), now)?;
        keep(dir, "ca", &issued)?;
        authority
    } else {
        load(dir)?
    };
    note(is_new, "ca")?;
    let certificates = [(Usage::Server, "server", server), (Usage::Client, stem, vec![client.to_owned()])];
    for (usage, stem, names) in certificates {
        let is_new = !is_there(dir, stem)?;
        if is_new {
            keep(dir, stem, &authority.sign(usage, &names, days, now)?)?;
        }
        note(is_new, stem)?;
    }
    Ok(made)
}

/// Made if need be, for us alone; refused when others may write there.
fn directory(dir: &Path) -> Result<(), Error> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|e| cannot("make", dir, &e))?;
    let mode = fs::metadata(dir).map_err(|e| cannot("look at", dir, &e))?.mode();
    if mode & 0o022 != 0 {
        let message = format!("others may write to {} (mode {:04o})", text::path(dir), mode & 0o7777);
        return Err(Error::new(Code::Refused, message).hint(format!("chmod 700 {}", dir.display())));
    }
    Ok(())
}

/// Every name that a client of this service may use, the wanted ones among them.
fn server_names(hosts: &[String]) -> Vec<String> {
    let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into();
    for name in [hostname()].iter().chain(hosts) {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    names
}

/// This machine's name; one that is no name for a certificate is as good as none.
fn hostname() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let is_part = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
    let fits = |name: &&str| (1..=253).contains(&name.len()) && name.bytes().all(is_part);
    Some(name.trim()).filter(fits).unwrap_or("localhost").to_owned()
}

/// Whether certificate and key are there; one without the other is refused.
fn is_there(dir: &Path, stem: &str) -> Result<bool, Error> {
    let [pem, key] = ["pem", "key"].map(|end| dir.join(format!("{stem}.{end}")));
    let (there, missing) = match (pem.symlink_metadata().is_ok(), key.symlink_metadata().is_ok()) {
        (true, true) => return Ok(true),
        (false, false) => return Ok(false),
        (true, false) => (pem, key),
        (false, true) => (key, pem),
    };
    let hint = if stem == "ca" {
        "nothing can be signed without both: bring it back for this, or use another directory with --dir"
    } else {
        "move it away to have both made anew"
    };
    Err(Error::new(
        Code::Refused,
        format!("{} is there, but not {}", text::path(&there), text::path(&missing)),
    )
    .hint(hint))
}

/// Refuses a certificate that was made for others, or is revoked: it is not made again, and would not do.
fn expect_names(dir: &Path, stem: &str, names: &[String]) -> Result<(), Error> {
    if !is_there(dir, stem)? {
        return Ok(());
    }
    let file = dir.join(format!("{stem}.pem"));
    let Described { names: known, issuer, serial, .. } = read(&file)?.swap_remove(0);
    if revoked_in(dir)?.contains(&(issuer, serial)) {
        let e = Error::new(Code::Refused, format!("{} is there already, and is revoked", text::path(&file)));
        return Err(e.hint("move it and its key away to have them made anew"));
    }
    let Some(missing) = names.iter().find(|name| !known.contains(name)) else { return Ok(()) };
    let message = format!("{} is there already, and is not for {}", text::path(&file), quoted(missing));
    Err(Error::new(Code::Refused, message).hint("move it and its key away to have them made anew"))
}

/// What the list of a directory calls revoked, if there is one.
fn revoked_in(dir: &Path) -> Result<BTreeSet<(String, String)>, Error> {
    let path = dir.join("crl.pem");
    let refused = |why: String| {
        Error::usage(format!("cannot take {} as a list of the revoked: {why}", text::path(&path)))
    };
    if path.symlink_metadata().is_err() {
        return Ok(BTreeSet::new());
    }
    let pem = files::read(&path, LIST_LEN_MAX).map_err(refused)?;
    identity::revoked(&pem).map_err(|e| refused(e.message))
}

fn load(dir: &Path) -> Result<Authority, Error> {
    let (pem, key) = (dir.join("ca.pem"), dir.join("ca.key"));
    let refused = |path: &Path, why: String| {
        Error::new(Code::Refused, format!("cannot sign with {}: {why}", text::path(path)))
    };
    let certificate = files::read(&pem, FILE_LEN_MAX).map_err(|why| refused(&pem, why))?;
    let key_text =
        zeroize::Zeroizing::new(files::private(&key, FILE_LEN_MAX).map_err(|why| refused(&key, why))?);
    let key_text = std::str::from_utf8(&key_text).map_err(|_| refused(&key, "it is not text".into()))?;
    Authority::load(&certificate, key_text).map_err(|why| refused(&pem, why))
}

/// Puts these certificates on the list of what the authority in this directory has revoked.
fn revoke(dir: &Path, files: &[PathBuf], now: Timestamp) -> Result<Vec<Made>, Error> {
    let path = dir.join("crl.pem");
    let lock = File::open(dir).map_err(|e| cannot("look into", dir, &e))?;
    if !try_lock(&lock).map_err(|e| cannot("lock", dir, &e))? {
        let message = format!("another program is changing {}", text::path(&path));
        return Err(Error::new(Code::Refused, message).hint("try again"));
    }
    let authority = load(dir)?;
    let refused = |file: &Path, why: &str| format!("cannot revoke {}: {why}", text::path(file));
    let mut list = match path.symlink_metadata() {
        Ok(_) => Some(files::read(&path, LIST_LEN_MAX).map_err(|why| Error::usage(refused(&path, &why)))?),
        Err(_) => None,
    };
    let mut revoked = Vec::new();
    for file in files {
        // A client by its name.
        let named = dir.join(format!("{}.pem", file.display()));
        let file =
            if file.components().count() == 1 && !file.exists() && named.exists() { &named } else { file };
        let pem = files::read(file, FILE_LEN_MAX).map_err(|why| {
            Error::usage(refused(file, &why))
                .hint("'provost cert show' tells which there are, and their files")
        })?;
        let longer = authority.revoke(list.as_deref(), &pem, now);
        let longer = longer.map_err(|e| Error { message: refused(file, &e.message), ..e })?;
        list = Some(longer.into_bytes());
        let all = read(file)?.into_iter();
        revoked.extend(all.map(|described| Made { what: "revoked", described, file: file.clone() }));
    }
    files::replace(&path, 0o644, &list.unwrap_or_default()).map_err(|e| cannot("write", &path, &e))?;
    stdout::notice(FOLLOWS);
    Ok(revoked)
}

/// Writes both, the key first, so that a certificate never stands without its key. Nothing is overwritten.
fn keep(dir: &Path, stem: &str, issued: &Issued) -> Result<(), Error> {
    let key = dir.join(format!("{stem}.key"));
    write(&key, 0o600, issued.key.as_bytes())?;
    write(&dir.join(format!("{stem}.pem")), 0o644, issued.certificate.as_bytes()).inspect_err(|_| {
        // A key alone would be in the way of the next try.
        let _ = fs::remove_file(&key);
    })
}

fn write(path: &Path, mode: u32, bytes: &[u8]) -> Result<(), Error> {
    let failed = |e| cannot("write", path, &e);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(failed)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(|e| {
        let _ = fs::remove_file(path);
        failed(e)
    })
}

fn report_made(made: &[Made], session: &mut Session) {
    if session.is_json() {
        for one in made {
            let mut object = in_json(&one.described, &one.file, Timestamp::now());
            object["done"] = one.what.into();
            session.object(&object);
        }
        return;
    }
    let row = |one: &Made| {
        let Made { what, described, file } = one;
        let (kind, names, end) = (kind(described), names(described), json::time(described.not_after));
        [(*what).into(), kind.into(), names, end, text::escaped(&file.to_string_lossy()).into()]
    };
    let header = ["WHAT", "KIND", "NAMES", "VALID UNTIL", "FILE"];
    stdout::table(&mut session.out, header, made.iter().map(row).collect());
}

/// What to do with them, but for what the service has already. For people, so that a pipe holds nothing but
/// the table. `role`: the client's.
fn next_steps(dir: &Path, client: &str, has_grpc: bool, role: Option<Role>) {
    if !has_grpc {
        let line = "next: [grpc] in the configuration (docs/recipes.md has the steps; packaging/demo.toml has a user already)";
        stdout::notice(&format!(
            "{line}, 'provost user add NAME', then 'provost reload', or 'provost serve --config FILE'"
        ));
    }
    let name = if client == CLIENT { "client" } else { client };
    let owner = format!("its owner gets {}, {name}.pem and {name}.key", dir.join("ca.pem").display());
    stdout::notice(&match role {
        Some(role) => format!("'{client}' has the role {}: {owner}", role.name()),
        None => format!(
            "'{client}' needs a role there: \"{client}\" = \"operator\" in [grpc.certificate_roles]; {owner}"
        ),
    });
}

/// The certificates of a directory, by name.
fn all_in(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let entries = fs::read_dir(dir).map_err(|e| {
        cannot("look into", dir, &e).hint(match e.kind() {
            io::ErrorKind::PermissionDenied => {
                "they are for root or the user of the service; --dir names others"
            }
            _ => "'provost cert init' makes certificates; --dir says where they are",
        })
    })?;
    let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|end| end == "pem") && !path.ends_with("crl.pem"));
    files.sort();
    Ok(files)
}

fn show(
    files: &[PathBuf],
    roles: Option<&BTreeMap<String, Role>>,
    session: &mut Session,
) -> Result<u8, Error> {
    let now = Timestamp::now();
    let mut rows = Vec::new();
    let mut are_valid = true;
    for file in files {
        let revoked = file.parent().map(revoked_in).transpose()?.unwrap_or_default();
        for described in read(file)? {
            let is_revoked = revoked.contains(&(described.issuer.clone(), described.serial.clone()));
            are_valid &= !is_revoked && (described.not_before..=described.not_after).contains(&now);
            let role = roles.and_then(|roles| role(&described, roles));
            let role = role.filter(|_| described.client).map_or("-", |role| role.name());
            if session.is_json() {
                let mut object = in_json(&described, file, now);
                object["role"] = Some(role).filter(|role| *role != "-").into();
                object["revoked"] = is_revoked.into();
                session.object(&object);
            }
            rows.push([
                kind(&described).to_owned(),
                names(&described),
                json::time(described.not_after),
                if is_revoked { "revoked".to_owned() } else { days_left(&described, now).to_string() },
                described.serial.clone(),
                role.to_owned(),
                text::escaped(&file.to_string_lossy()).into(),
            ]);
        }
    }
    if !session.is_json() {
        let header = ["KIND", "NAMES", "VALID UNTIL", "DAYS", "SERIAL", "ROLE", "FILE"];
        stdout::table(&mut session.out, header, rows);
    }
    Ok(if are_valid { 0 } else { Code::No.exit_code() })
}

/// The highest that one of its names has.
fn role(described: &Described, roles: &BTreeMap<String, Role>) -> Option<Role> {
    described.typed.iter().filter_map(|name| roles.get(name)).max().copied()
}

/// What the service that is addressed has by its configuration.
struct Own {
    roles: BTreeMap<String, Role>,
    /// Where its certificates are.
    dir: PathBuf,
}

/// None: it has no gRPC, or there is none.
fn own_roles(session: &Session) -> Result<Option<Own>, Error> {
    let own = session.socket().ok().and_then(|socket| state::of_service(&socket).config);
    own.map_or(Ok(None), |config| of_config(&config, session))
}

fn roles(config: &Path, session: &Session) -> Result<BTreeMap<String, Role>, Error> {
    let none = || Error::usage(format!("there is no [grpc] in {}", text::path(config)));
    of_config(config, session)?.map(|own| own.roles).ok_or_else(none)
}

fn of_config(config: &Path, session: &Session) -> Result<Option<Own>, Error> {
    let state = state_directory(session)?;
    let grpc = config::load(config, Some(&state))?.grpc;
    Ok(grpc.map(|grpc| Own {
        dir: grpc.files.ca.parent().map(Path::to_owned).unwrap_or_default(),
        roles: grpc.roles.by_certificate,
    }))
}

fn read(file: &Path) -> Result<Vec<Described>, Error> {
    let refused =
        |why: String| Error::usage(format!("cannot take {} as a certificate: {why}", text::path(file)));
    let pem = files::read(file, FILE_LEN_MAX).map_err(refused)?;
    describe(&pem).map_err(|e| refused(e.message))
}

fn kind(described: &Described) -> &'static str {
    match (described.is_ca, described.server, described.client) {
        (true, ..) => "ca",
        (false, true, true) => "server+client",
        (false, true, false) => "server",
        (false, false, true) => "client",
        (false, false, false) => "other",
    }
}

/// The names it has; an authority has none but its subject.
fn names(described: &Described) -> String {
    let names = described.names.join(",");
    text::escaped(if names.is_empty() { &described.subject } else { &names }).into_owned()
}

/// Whole days until it ends, less than none when it has.
fn days_left(described: &Described, now: Timestamp) -> i64 {
    let ms = i128::from(described.not_after.0) - i128::from(now.0);
    i64::try_from(ms.div_euclid(i128::from(DAY_MS))).unwrap_or(i64::MAX)
}

fn in_json(described: &Described, file: &Path, now: Timestamp) -> Value {
    json!({
        "kind": kind(described),
        "names": described.names,
        "subject": described.subject,
        "issuer": described.issuer,
        "serial": described.serial,
        "not_before": json::time(described.not_before),
        "not_after": json::time(described.not_after),
        "days_left": days_left(described, now),
        "file": file.to_string_lossy(),
    })
}

fn cannot(what: &str, path: &Path, e: &io::Error) -> Error {
    let code = if e.kind() == io::ErrorKind::PermissionDenied { Code::Refused } else { Code::Failed };
    Error::new(code, format!("cannot {what} {}: {}", text::path(path), text::cause(e)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_word_decides() {
        let parsed = |line: &[&str]| {
            let mut arguments = Arguments::new(line.iter().map(Into::into)).unwrap();
            arguments.belong_to(&COMMAND.about).unwrap();
            parse(&mut arguments)
        };
        assert_eq!(
            parsed(&["init", "--dir", "d", "--host", "a", "--host", "b", "--days", "3"]),
            Ok(CertArgs::Init {
                dir: Some("d".into()),
                hosts: vec!["a".into(), "b".into()],
                client: CLIENT.into(),
                days: 3
            })
        );
        assert_eq!(
            parsed(&["show", "f", "--config", "c"]),
            Ok(CertArgs::Show { dir: None, config: Some("c".into()), files: vec!["f".into()] })
        );
        for bad in [
            &[][..],
            &["make"],
            &["init", "x"],
            &["init", "--days", "0"],
            &["init", "--days", "3651"],
            &["init", "--client", "a/b"],
            &["init", "--client", "ca"],
            &["init", "--config", "c"],
            &["show", "--days", "3"],
            &["revoke"],
            &["revoke", "f", "--config", "c"],
        ] {
            assert!(parsed(bad).is_err(), "{bad:?}");
        }
    }
}
