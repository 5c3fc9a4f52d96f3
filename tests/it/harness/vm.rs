//! A virtual machine with a kernel of its own, for what this one may lack: the binary under test and a shell
//! in an initial file system, and a script that says on a serial line what it saw. It is emulated, also where
//! there is KVM: in a machine that is virtual itself that is there, and may not work.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::harness::{Scratch, binary, wait};

/// Until when the script has to be through, also on a machine that is busy: it takes a minute or two.
const LIMIT: Duration = Duration::from_secs(480);
/// The last line of what the script says.
const END: &str = "== end";
/// Memory of the machine in MiB: the file system is in it.
const MEMORY_MIB: u32 = 1024;

/// What begins in it: the file systems that a kernel has, then the script. What it says goes to a line that
/// the kernel does not use.
const INIT: &str = "#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin HOME=/
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t cgroup2 cgroup2 /sys/fs/cgroup
ip link set lo up
sh /script </dev/null >/dev/ttyS1 2>&1
echo '== end' >/dev/ttyS1
poweroff -f
";

/// Why no machine can be run here; none: it can.
pub fn lack() -> Option<String> {
    if !cfg!(target_arch = "x86_64") {
        return Some("its kernel is for x86_64".to_owned());
    }
    let runs = |program: &str| Command::new(program).arg("--version").stdout(Stdio::null()).status().is_ok();
    let is_there = runs("qemu-system-x86_64") && ["vmlinuz", "busybox"].iter().all(|f| part(f).exists());
    if is_there {
        return None;
    }
    assert!(!runs("apt-get"), "qemu-system-x86_64 or target/vm is missing: tests/install.sh tests");
    Some(
        "qemu-system-x86_64 and Debian's kernel are not here, and there is no apt-get to fetch them"
            .to_owned(),
    )
}

fn part(name: &str) -> PathBuf {
    let target = binary().ancestors().nth(2).expect("the binary is in the target directory");
    target.join("vm").join(name)
}

/// Runs a script there and returns what it said.
pub fn run(script: &str) -> String {
    let scratch = Scratch::new();
    let [image, said, console] = ["image", "said", "console"].map(|name| scratch.path().join(name));
    let program = scratch.path().join("provost");
    strip_into(&program).expect("the binary is copied");
    write_image(&image, &program, script).expect("the file system is written");
    let mut machine = Command::new("qemu-system-x86_64");
    machine.args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-smp", "2"]);
    machine.args(["-m", &MEMORY_MIB.to_string()]);
    machine.args(["-machine", "pc,accel=tcg", "-cpu", "max"]);
    machine.arg("-kernel").arg(part("vmlinuz")).arg("-initrd").arg(&image);
    machine.args(["-append", "console=ttyS0 quiet panic=-1 rdinit=/init"]);
    for line in [&console, &said] {
        machine.arg("-serial").arg(format!("file:{}", line.display()));
    }
    let log = File::create(scratch.path().join("qemu")).expect("it is ours");
    machine.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    let mut machine = machine.spawn().expect("qemu runs");
    let is_over = wait::holds_within(LIMIT, || machine.try_wait().expect("it is our child").is_some());
    let _ = machine.kill();
    let _ = machine.wait();
    let read = |path: &Path| {
        let bytes = fs::read(path).unwrap_or_default();
        String::from_utf8_lossy(&bytes).replace('\r', "")
    };
    let text = read(&said);
    let qemu = read(&scratch.path().join("qemu"));
    assert!(
        is_over && text.trim_end().ends_with(END),
        "the script did not come to its end:\n{text}\n-- qemu: {qemu}\n-- console: {}",
        read(&console)
    );
    text
}

/// An archive in the form that the kernel takes (cpio, newc).
fn write_image(image: &Path, program: &Path, script: &str) -> io::Result<()> {
    let mut out = io::BufWriter::new(File::create(image)?);
    let mut inode = 0;
    let mut add = |path: &str, mode: u32, bytes: &[u8]| {
        inode += 1;
        let name = path.trim_start_matches('/');
        let (len, name_len) = (bytes.len(), name.len() + 1);
        write!(out, "070701{inode:08X}{mode:08X}{:08X}{:08X}{:08X}{:08X}{len:08X}", 0, 0, 1, 0)?;
        write!(out, "{:08X}{:08X}{:08X}{:08X}{name_len:08X}{:08X}{name}\0", 0, 0, 0, 0, 0)?;
        let to_four = |len: usize| &[0_u8; 3][..(4 - len % 4) % 4];
        out.write_all(to_four(110 + name_len))?;
        out.write_all(bytes)?;
        out.write_all(to_four(len))
    };
    for dir in ["bin", "proc", "sys", "dev", "etc", "tmp", "run", "lib", "lib64", "lib/x86_64-linux-gnu"] {
        add(dir, 0o040_755, b"")?;
    }
    add("init", 0o100_755, INIT.as_bytes())?;
    add("script", 0o100_644, script.as_bytes())?;
    add("etc/passwd", 0o100_644, b"root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n")?;
    add("etc/group", 0o100_644, b"root:x:0:\nnogroup:x:65534:\n")?;
    add("bin/busybox", 0o100_755, &fs::read(part("busybox"))?)?;
    add("bin/provost", 0o100_755, &fs::read(program)?)?;
    for library in libraries(binary()) {
        let name = library.to_str().expect("the path is text").to_owned();
        let name = if name.contains("ld-linux") { name } else { name.replace("/usr/lib/", "/lib/") };
        add(&name, 0o100_755, &fs::read(&library)?)?;
    }
    add("TRAILER!!!", 0, b"")?;
    out.flush()
}

/// The binary without what only a debugger wants, where there is a program for that.
fn strip_into(path: &Path) -> io::Result<()> {
    let done = Command::new("strip").arg("-o").arg(path).arg(binary()).status();
    if !done.is_ok_and(|status| status.success()) {
        fs::copy(binary(), path)?;
    }
    Ok(())
}

/// What the loader needs for it, by their paths here.
fn libraries(program: &Path) -> Vec<PathBuf> {
    let said = Command::new("ldd").arg(program).output().expect("ldd runs");
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    said.split_ascii_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect()
}
