//! Programs from outside, asked over their own protocols: started, killed, restarted by policy, stopped.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use crate::harness::{Options, SOON, Service, free_port, procfs, wait};

/// Fails the test with the next step where a program is missing.
fn need(program: &str) {
    let found =
        Command::new("sh").args(["-c", &format!("command -v {program}")]).output().expect("sh is installed");
    assert!(found.status.success(), "{program} is not installed: run 'make test', which installs it");
}

/// Sends text to a port and returns all that comes back until `enough` of it is there.
fn ask(port: u16, text: &str, enough: impl Fn(&str) -> bool) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    stream.write_all(text.as_bytes()).ok()?;
    let (mut answer, mut chunk) = (String::new(), [0; 4096]);
    while !enough(&answer) {
        match stream.read(&mut chunk).ok()? {
            0 => break,
            n => answer.push_str(&String::from_utf8_lossy(&chunk[..n])),
        }
    }
    Some(answer)
}

/// The answer to one HTTP request, with its head.
fn get(port: u16, path: &str) -> Option<String> {
    ask(port, &format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n"), |_| false)
}

/// The answer to one command of the Redis protocol.
fn redis(port: u16, args: &[&str]) -> Option<String> {
    let mut text = format!("*{}\r\n", args.len());
    args.iter().for_each(|w| text.push_str(&format!("${}\r\n{w}\r\n", w.len())));
    ask(port, &text, |answer| {
        let lines = answer.matches("\r\n").count();
        lines > usize::from(answer.starts_with('$') && !answer.starts_with("$-1"))
    })
}

/// Kills the leader and waits for the next run, which must be another process of the same identity.
fn kill_and_expect_restart(service: &Service, name: &str) -> u32 {
    let before = service.status_json(name);
    let old = before["pid"].as_u64().expect("it runs") as u32;
    procfs::signal("KILL", old);
    wait::until("it runs again and is ready", SOON, || {
        let now = service.status_json(name);
        now["run"].as_u64() > before["run"].as_u64() && now["ready"] == true
    });
    let now = service.status_json(name);
    assert_eq!((&now["id"], &now["restarts"]), (&before["id"], &1.into()), "{now}");
    assert_eq!(now["exit"]["signal"], "SIGKILL", "{now}");
    now["pid"].as_u64().expect("it runs") as u32
}

#[test]
fn python_http_server() {
    need("python3");
    let service = Service::new();
    let port = free_port().to_string();
    let dir = service.scratch().path().to_str().expect("the path is text").to_owned();
    fs::write(service.scratch().file("hello.txt"), "hello from a file\n").expect("the directory is ours");
    let args = [
        "start",
        "--name",
        "python",
        "--restart",
        "always",
        "--cwd",
        &dir,
        "--ready-tcp",
        &port,
        "--wait=ready",
    ];
    let program = ["--timeout", "20s", "--", "python3", "-m", "http.server", &port, "--bind", "127.0.0.1"];
    service.ok(&[&args[..], &program[..]].concat());
    let port = port.parse().expect("a port");
    let answer = get(port, "/hello.txt").expect("it answers at once, being ready");
    assert!(answer.starts_with("HTTP/1.0 200") && answer.ends_with("hello from a file\n"), "{answer}");
    kill_and_expect_restart(&service, "python");
    assert!(get(port, "/nothing").expect("it answers").starts_with("HTTP/1.0 404"));
    wait::until("its log is kept", SOON, || {
        String::from_utf8_lossy(&service.output("python")).contains("GET /nothing")
    });
    service.ok(&["stop", "python"]);
    assert!(get(port, "/hello.txt").is_none(), "it is gone");
}

#[test]
fn redis_server() {
    need("redis-server");
    let service = Service::new();
    let port = free_port();
    let dir = service.scratch().path().to_str().expect("the path is text").to_owned();
    let port_text = port.to_string();
    let args = [
        "start",
        "--name",
        "redis",
        "--restart",
        "on-failure",
        "--ready-line",
        "Ready to accept connections",
    ];
    let program = ["redis-server", "--port", &port_text, "--bind", "127.0.0.1", "--save", "", "--dir", &dir];
    service.ok(&[&args[..], &["--wait=ready", "--timeout", "20s", "--"], &program[..]].concat());
    assert_eq!(redis(port, &["PING"]).as_deref(), Some("+PONG\r\n"));
    assert_eq!(redis(port, &["SET", "key", "value"]).as_deref(), Some("+OK\r\n"));
    assert_eq!(redis(port, &["GET", "key"]).as_deref(), Some("$5\r\nvalue\r\n"));
    kill_and_expect_restart(&service, "redis");
    assert_eq!(
        redis(port, &["GET", "key"]).as_deref(),
        Some("$-1\r\n"),
        "another process, with nothing saved"
    );
    // The engine dies; redis does not notice.
    assert_eq!(redis(port, &["SET", "other", "1"]).as_deref(), Some("+OK\r\n"));
    service.kill_engine();
    assert_eq!(redis(port, &["GET", "other"]).as_deref(), Some("$1\r\n1\r\n"));
    service.ok(&["stop", "redis"]);
    let process = service.status_json("redis");
    assert_eq!((&process["state"], &process["exit"]["code"]), (&"stopped".into(), &0.into()), "{process}");
    let log = String::from_utf8_lossy(&service.output("redis")).into_owned();
    assert!(log.contains("bye bye"), "its last words are kept: {log}");
}

#[test]
fn nginx() {
    serve_with_nginx(&Service::new());
}

#[test]
fn nginx_without_cgroups() {
    serve_with_nginx(&Options::new().without_cgroups().start());
}

fn serve_with_nginx(service: &Service) {
    need("nginx");
    let port = free_port();
    let scratch = service.scratch();
    fs::write(scratch.file("index.html"), "hello from nginx\n").expect("the directory is ours");
    let config = format!(
        "daemon off; user root; worker_processes 2; pid {dir}/nginx.pid; error_log stderr notice;\n\
         events {{ worker_connections 64; }}\n\
         http {{ access_log /dev/stdout; root {dir}; client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy;\n\
         fastcgi_temp_path {dir}/fastcgi; uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;\n\
         server {{ listen 127.0.0.1:{port}; }} }}\n",
        dir = scratch.path().display()
    );
    let file = scratch.file("nginx.conf");
    fs::write(&file, config).expect("the directory is ours");
    let port_text = port.to_string();
    let args = [
        "start",
        "--name",
        "nginx",
        "--restart",
        "always",
        "--stop-signal",
        "QUIT",
        "--ready-tcp",
        &port_text,
    ];
    service.ok(&[&args[..], &["--wait=ready", "--timeout", "20s", "--", "nginx", "-c", &file]].concat());
    assert!(get(port, "/").expect("it answers").ends_with("hello from nginx\n"));
    // Not by their environment: nginx writes its titles over it.
    let tree = service.below();
    assert_eq!(tree.len(), 3, "a master and two workers");
    // The workers outlive their master and hold its port: without an end to them no restart could listen.
    let new = kill_and_expect_restart(service, "nginx");
    assert!(
        !tree.contains(&new) && tree.iter().all(|&pid| !procfs::alive(pid)),
        "all of the first run are gone"
    );
    assert!(get(port, "/").expect("it answers").ends_with("hello from nginx\n"));
    let log = String::from_utf8_lossy(&service.output("nginx")).into_owned();
    assert!(log.contains("GET / HTTP/1.0"), "its access log is kept: {log}");
    // A signal of nginx's own: the configuration is read again, the master stays.
    service.ok(&["signal", "HUP", "nginx"]);
    wait::until("it was read again", SOON, || {
        String::from_utf8_lossy(&service.output("nginx")).contains("reconfiguring")
    });
    assert_eq!(service.pid("nginx"), new);
    service.ok(&["stop", "nginx"]);
    let process = service.status_json("nginx");
    assert_eq!((&process["state"], &process["exit"]["code"]), (&"stopped".into(), &0.into()), "{process}");
    assert!(get(port, "/").is_none(), "it is gone");
}
