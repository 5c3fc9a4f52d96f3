//! The service that is measured, with everything that it takes to speak to it from another machine.

use std::env;
use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use provost::client::settings::RemoteSettings;
use provost::client::{Address, Remote};
use provost::tls::material::{self, Files};
use provost::wire::json::base64;
use rustls::ClientConfig;

use crate::SERVICES;
use crate::grpc::LOOPBACK;
use crate::grpc::client::Caller;
use crate::grpc::raw::Raw;
use crate::host;
use crate::ours::{BINARY, Provost, only};
use crate::sample::{Outcome, pass, until};

/// The process that the service runs as its gateway.
pub const GATEWAY: &str = "provost.gateway";
/// The user of all calls, and its password.
pub const USER: &str = "alice";
/// Somebody else, with the same.
pub const OTHER: &str = "bob";
const PASSWORD: &str = "of the benchmark";
/// How long the gateway may take to be there.
const READY_LIMIT: Duration = Duration::from_secs(10);

/// A service with a gateway and [`SERVICES`] processes.
pub struct Site {
    pub service: Provost,
    pub address: SocketAddr,
    pub certificates: PathBuf,
    dir: PathBuf,
}

/// One more service with the same certificates and users, whose gateway nobody has seen yet.
pub struct Another {
    service: Provost,
    pub address: SocketAddr,
}

impl Site {
    /// Makes certificates, a user and a configuration in `dir`, and serves with them.
    pub fn serve(dir: &Path) -> Outcome<Self> {
        let dir = dir.join("grpc");
        fs::create_dir(&dir)?;
        let certificates = dir.join("certs");
        provost(&["cert", "init", "--dir", text(&certificates)?], "")?;
        for user in [USER, OTHER] {
            provost(&["user", "add", user, "--users", text(&dir.join("users"))?], PASSWORD)?;
        }
        let (config, address) = configure(&dir)?;
        let service = Provost::serve_with(&dir, &["--config", text(&config)?])?;
        let mut site = Self { service, address, certificates, dir };
        site.service.fill(SERVICES)?;
        until("the gateway answers", READY_LIMIT, || site.caller(address).and_then(|c| c.check()).is_ok())?;
        Ok(site)
    }

    /// A client of this gateway with certificate and password.
    pub fn caller(&self, address: SocketAddr) -> Outcome<Caller> {
        Caller::secure(address, &self.tls()?, &login(USER))
    }

    /// Starts one more service, and does not wait for its gateway.
    pub fn another(&self) -> Outcome<Another> {
        let (config, address) = configure(&self.dir)?;
        let dir = self.dir.join(address.port().to_string());
        fs::create_dir(&dir)?;
        let service = Provost::serve_with(&dir, &["--config", text(&config)?])?;
        Ok(Another { service, address })
    }

    /// Where the client library finds it.
    pub fn address(&self) -> Outcome<Address> {
        let settings = RemoteSettings {
            host: self.address.to_string().parse()?,
            files: files(&self.certificates, "client"),
            is_without_crl: false,
            user: Some(USER.to_owned()),
            password_file: None,
        };
        Ok(Address::remote(Remote::new(&settings, Some(PASSWORD))?))
    }

    /// What a client shows.
    pub fn tls(&self) -> Outcome<Arc<ClientConfig>> {
        client_tls(&self.certificates)
    }

    /// Of the gateway.
    pub fn pid(&mut self) -> Outcome<u32> {
        gateway_pid(&mut self.service)
    }
}

impl Another {
    /// The memory (PSS) of its gateway, MiB.
    pub fn memory(&mut self) -> Outcome<f64> {
        Ok(host::usage(&[gateway_pid(&mut self.service)?]).pss_mib)
    }

    /// Processes that can be asked for.
    pub fn fill(&mut self) -> Outcome {
        self.service.fill(SERVICES)
    }

    pub fn end(self) -> Outcome {
        self.service.end()
    }

    /// Waits until its gateway lets us in.
    pub fn ready(&self, tls: &Arc<ClientConfig>) -> Outcome {
        let begin = Instant::now();
        while Raw::connect(self.address, tls).is_err() {
            if begin.elapsed() > READY_LIMIT {
                return Err("one more gateway does not answer".into());
            }
            pass(Duration::from_millis(1));
        }
        Ok(())
    }
}

fn gateway_pid(service: &mut Provost) -> Outcome<u32> {
    let process = only(service.client.status(vec![GATEWAY.to_owned()])?)?;
    Ok(process.pid.ok_or("the gateway does not run")?)
}

/// The value of `authorization` of this user.
pub fn login(user: &str) -> String {
    format!("Basic {}", base64(format!("{user}:{PASSWORD}").as_bytes()))
}

/// What a client shows that has the certificates of this directory.
pub fn client_tls(certificates: &Path) -> Outcome<Arc<ClientConfig>> {
    Ok(material::client(&files(certificates, "client"))?)
}

/// One end's.
pub fn files(certificates: &Path, end: &str) -> Files {
    Files {
        certificate: certificates.join(format!("{end}.pem")),
        key: certificates.join(format!("{end}.key")),
        ca: certificates.join("ca.pem"),
        crl: None,
    }
}

/// A Python with grpcio, if `tests/install.sh tests` has made one below the directory for builds, where we
/// are, too.
pub fn python() -> Option<PathBuf> {
    let ours = env::current_exe().ok()?;
    ours.ancestors().map(|dir| dir.join("clients/python/bin/python3")).find(|path| path.exists())
}

pub fn text(path: &Path) -> Outcome<&str> {
    Ok(path.to_str().ok_or("the path of the directory is not text")?)
}

/// Writes a configuration with an address that is free. More connections than the default, so that a thousand
/// can be idle and somebody else be served.
fn configure(dir: &Path) -> Outcome<(PathBuf, SocketAddr)> {
    let address = TcpListener::bind((LOOPBACK, 0))?.local_addr()?;
    let config = dir.join(format!("{}.toml", address.port()));
    let text = format!(
        "[grpc]\nlisten = \"{address}\"\ncertificate = \"certs/server.pem\"\nkey = \"certs/server.key\"\n\
         ca = \"certs/ca.pem\"\nusers = \"users\"\n\
         [grpc.certificate_roles]\n\"client.provost\" = \"admin\"\n[grpc.user_roles]\n{USER} = \"admin\"\n{OTHER} = \"viewer\"\n\
         [grpc.limits]\nconnections = 2000\nconnections_each = 2000\n"
    );
    fs::write(&config, text)?;
    Ok((config, address))
}

/// Runs a command that is given this on standard input. It must succeed.
fn provost(args: &[&str], input: &str) -> Outcome {
    let mut command = Command::new(BINARY);
    let mut child = command.args(args).stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
    child.stdin.take().ok_or("it has an input")?.write_all(input.as_bytes())?;
    let status = child.wait()?;
    if status.success() { Ok(()) } else { Err(format!("{status}: provost {}", args.join(" ")).into()) }
}
