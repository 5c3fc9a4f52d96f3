//! The gRPC C core: its begin; connected sockets handed over to it, which it reads and writes by itself from
//! then on; and its end, which grpcio leaves out.

use std::io;
use std::os::fd::IntoRawFd;
use std::os::unix::net::UnixStream;

use grpcio::{Channel, ChannelBuilder, EnvBuilder, Server};

/// Takes up the C core, with so many completion threads. Every use of it begins here.
pub fn environment(completion_threads: usize) -> EnvBuilder {
    #[cfg(deferred_initialisers)]
    deferred::run();
    #[expect(clippy::disallowed_methods, reason = "here is where the others are sent")]
    EnvBuilder::new().cq_count(completion_threads).name_prefix("grpc")
}

/// What C++ has run before `main`. The C core has hundreds of initialisers, all over its code: a command that
/// asks for a status spent a tenth of a millisecond in them. A static binary is linked so that libc finds
/// none (`build.rs`), and the programs that use the core run them here.
#[cfg(deferred_initialisers)]
mod deferred {
    use std::env;
    use std::ffi::{CString, c_char, c_int};
    use std::os::unix::ffi::OsStringExt;
    use std::sync::Once;

    // SAFETY: of these declarations: a function of that array takes what `main` takes; the linker makes the
    // first two symbols, at a function and behind the last one; the third is libc's.
    type Initialiser = unsafe extern "C" fn(c_int, *const *const c_char, *const *const c_char);

    unsafe extern "C" {
        /// Of the section `.init_array`; what libc takes for its end is the same place.
        static __init_array_start: Initialiser;
        /// By `build.rs`.
        static provost_init_array_end: Initialiser;
        static environ: *const *const c_char;
    }

    pub fn run() {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            // One of them is that of Rust's own library, which keeps where the arguments are.
            let texts = env::args_os().map(|arg| CString::new(arg.into_vec()).expect("it was one"));
            let mut arguments: Vec<_> = texts.map(|text| text.into_raw().cast_const()).collect();
            let count = arguments.len() as c_int;
            arguments.push(std::ptr::null());
            let arguments = arguments.leak().as_ptr();
            let (mut next, end) = (&raw const __init_array_start, &raw const provost_init_array_end);
            while next < end {
                // SAFETY: between the two lie the section's functions and nothing else. libc has run none of
                // them, nothing that they prepare has been used before, and this runs them once, in their
                // order. The arguments are never freed.
                unsafe {
                    (*next)(count, arguments, environ);
                    next = next.add(1);
                }
            }
        });
    }
}

/// Lets a started server answer what comes from this socket.
pub fn serve(server: &mut Server, socket: UnixStream) -> io::Result<()> {
    // The core waits for readiness by itself; on a blocking socket it would hang in a read.
    socket.set_nonblocking(true)?;
    // SAFETY: the socket is a connected stream, and giving up its descriptor makes the core the only one to
    // use it.
    unsafe { server.add_channel_from_fd(socket.into_raw_fd()) };
    Ok(())
}

/// A channel over this socket. The target is only a name for it.
pub fn channel(builder: ChannelBuilder, target: &str, socket: UnixStream) -> io::Result<Channel> {
    socket.set_nonblocking(true)?;
    // SAFETY: as above.
    Ok(unsafe { builder.connect_from_fd(target, socket.into_raw_fd()) })
}

unsafe extern "C" {
    /// In the C core, which grpcio links.
    fn grpc_shutdown();
}

/// Gives back one use of the C core, of which each `grpcio::Environment` takes one: with the last one its
/// threads end. To be called once for each, when its completion threads have ended and its channels are gone.
pub fn release() {
    // SAFETY: it takes the core's own lock, and counts; the caller has nothing of the core any more. The core
    // may be taken up again.
    unsafe { grpc_shutdown() };
}
