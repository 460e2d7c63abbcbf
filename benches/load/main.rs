//! Load, and those who bear it: what no tool of the distribution does for `make bench`.
//!
//!     load serve PORT                       every server below, on PORT and the three after it
//!     load blast ADDRESS PORT SECONDS SIZE  UDP datagrams as fast as they can be sent
//!     load ping ADDRESS PORT SECONDS        32 bytes there and back, one after the other, over TCP
//!     load connect ADDRESS PORT SECONDS AT_ONCE     connections: open, one byte there and back, close
//!     load crowd ADDRESS PORT FIRST COUNT   a datagram from each of so many clients, 60,000 an address from
//!                                           FIRST on, which need not be this host's
//!
//! `serve` counts datagrams on PORT, echoes TCP on PORT + 1, and answers one byte and waits for the end
//! on PORT + 2; a line on its standard input asks how many datagrams it has counted. Results are words of
//! the form `name=number` on one line. Everything is for both families, and ends by itself but `serve`.

#![expect(clippy::print_stdout, reason = "results are printed")]
#![expect(clippy::disallowed_methods, reason = "a load needs a clock")]
#![expect(clippy::cast_possible_truncation, reason = "counts and flags of the system are small")]
#![expect(clippy::cast_sign_loss, reason = "counts and flags of the system are small")]
#![expect(unsafe_code, reason = "many datagrams a call, and many sockets a wait, are not in std")]

use std::io::{Error, ErrorKind, Read, Write};
use std::mem::zeroed;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// Datagrams a call.
const BURST: usize = 32;

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn main() -> Outcome {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["serve", port] => serve(port.parse()?),
        ["blast", addr, port, seconds, size] => {
            blast(SocketAddr::new(addr.parse()?, port.parse()?), after(seconds)?, size.parse()?)
        }
        ["ping", addr, port, seconds] => {
            ping(SocketAddr::new(addr.parse()?, port.parse()?), after(seconds)?)
        }
        ["connect", addr, port, seconds, at_once] => {
            let to = SocketAddr::new(addr.parse()?, port.parse()?);
            connect(to, after(seconds)?, at_once.parse()?)
        }
        ["crowd", addr, port, first, count] => {
            crowd(SocketAddr::new(addr.parse()?, port.parse()?), first.parse()?, count.parse()?)
        }
        _ => Err("load serve|blast|ping|connect|crowd …; the head of main.rs says more".into()),
    }
}

fn after(seconds: &str) -> Result<Duration, std::num::ParseFloatError> {
    Ok(Duration::from_secs_f64(seconds.parse()?))
}

/// All servers. Whoever writes a line to standard input gets the number of datagrams.
fn serve(port: u16) -> Outcome {
    let any = |port| SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port);
    let any =
        |port| if has_ipv6() { any(port) } else { SocketAddr::new(IpAddr::from([0; 4]), port) };
    let counted = Arc::new(AtomicU64::new(0));
    let sink = UdpSocket::bind(any(port))?;
    let count = Arc::clone(&counted);
    thread::spawn(move || sink_datagrams(&sink, &count));
    let echo = TcpListener::bind(any(port + 1))?;
    thread::spawn(move || {
        for stream in echo.incoming().flatten() {
            thread::spawn(move || echo_bytes(stream));
        }
    });
    let short = TcpListener::bind(any(port + 2))?;
    // std asks for a queue of 128.
    // SAFETY: listening again on a descriptor that we own changes the length of its queue only.
    unsafe { libc::listen(short.as_raw_fd(), 65_535) };
    thread::spawn(move || answer_all(&short));
    println!("listening");
    for line in std::io::stdin().lines() {
        line?;
        println!("datagrams={}", counted.load(Ordering::Relaxed));
    }
    Ok(())
}

fn has_ipv6() -> bool {
    UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).is_ok()
}

fn sink_datagrams(socket: &UdpSocket, count: &AtomicU64) {
    let room: libc::c_int = 32 << 20;
    // SAFETY: the option is an int, and its size is given.
    unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVBUFFORCE,
            (&raw const room).cast(),
            size_of::<libc::c_int>() as u32,
        );
    }
    let mut buffers = [[0_u8; 2048]; BURST];
    let mut parts: [libc::iovec; BURST] = std::array::from_fn(|i| libc::iovec {
        iov_base: buffers[i].as_mut_ptr().cast(),
        iov_len: 2048,
    });
    let mut messages = messages(&mut parts);
    loop {
        // SAFETY: each message points to a part of its own, and each part to a buffer of its own, all of
        // which live as long as this function.
        let got = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                messages.as_mut_ptr(),
                BURST as u32,
                libc::MSG_WAITFORONE,
                std::ptr::null_mut(),
            )
        };
        count.fetch_add(u64::try_from(got).unwrap_or(0), Ordering::Relaxed);
    }
}

/// A message for each part.
fn messages(parts: &mut [libc::iovec; BURST]) -> [libc::mmsghdr; BURST] {
    // SAFETY: zeros are a message without an address, parts and control data.
    let mut messages: [libc::mmsghdr; BURST] = unsafe { zeroed() };
    for (message, part) in messages.iter_mut().zip(parts) {
        message.msg_hdr.msg_iov = part;
        message.msg_hdr.msg_iovlen = 1;
    }
    messages
}

fn echo_bytes(mut stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let mut buffer = [0; 4096];
    while let Ok(len @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..len]).is_err() {
            return;
        }
    }
}

/// Sockets that are waited for together, each known by its descriptor.
struct Waiting(i32);

impl Waiting {
    fn new() -> Self {
        // SAFETY: takes no pointer.
        Self(unsafe { libc::epoll_create1(0) })
    }

    fn add(&self, fd: i32, events: i32) {
        let data = u64::try_from(fd).unwrap_or(u64::MAX);
        let mut event = libc::epoll_event { events: events as u32, u64: data };
        // SAFETY: the event lives longer than the call.
        unsafe { libc::epoll_ctl(self.0, libc::EPOLL_CTL_ADD, fd, &raw mut event) };
    }

    /// Calls `each` for every descriptor that is ready; waits for the first at most `millis`.
    fn wait(&self, millis: i32, mut each: impl FnMut(i32)) {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; 256];
        // SAFETY: there is room for as many events as is said.
        let got = unsafe { libc::epoll_wait(self.0, events.as_mut_ptr(), 256, millis) };
        for event in &events[..usize::try_from(got).unwrap_or(0)] {
            each(event.u64 as i32);
        }
    }
}

/// Answers a byte with a byte and closes when the client does, for many clients at once.
fn answer_all(listener: &TcpListener) {
    let waiting = Waiting::new();
    let _ = listener.set_nonblocking(true);
    waiting.add(listener.as_raw_fd(), libc::EPOLLIN);
    let mut streams: Vec<Option<TcpStream>> = Vec::new();
    loop {
        waiting.wait(-1, |fd| {
            if fd == listener.as_raw_fd() {
                while let Ok((stream, _)) = listener.accept() {
                    let _ = (stream.set_nonblocking(true), stream.set_nodelay(true));
                    let at = stream.as_raw_fd() as usize;
                    waiting.add(stream.as_raw_fd(), libc::EPOLLIN);
                    streams.resize_with(streams.len().max(at + 1), || None);
                    streams[at] = Some(stream);
                }
                return;
            }
            let Some(place) = streams.get_mut(fd as usize) else { return };
            let Some(stream) = place else { return };
            let mut byte = [0; 16];
            match stream.read(&mut byte) {
                Ok(len @ 1..) => drop(stream.write_all(&byte[..len])),
                Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                Ok(0) | Err(_) => *place = None,
            }
        });
    }
}

fn unbound(to: SocketAddr) -> SocketAddr {
    match to {
        SocketAddr::V4(_) => SocketAddr::new(IpAddr::from([0; 4]), 0),
        SocketAddr::V6(_) => SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 0),
    }
}

fn blast(to: SocketAddr, time: Duration, size: usize) -> Outcome {
    // A few flows, as from a few clients: one queue and one connection would be a special case.
    let sockets: Vec<UdpSocket> = (0..8)
        .map(|_| {
            let socket = UdpSocket::bind(unbound(to))?;
            socket.connect(to)?;
            Ok(socket)
        })
        .collect::<Result<_, Error>>()?;
    let mut data = vec![0x5a_u8; size];
    let part = libc::iovec { iov_base: data.as_mut_ptr().cast(), iov_len: size };
    let mut parts = [part; BURST];
    let mut messages = messages(&mut parts);
    let (start, mut sent) = (Instant::now(), 0_u64);
    while start.elapsed() < time {
        for socket in &sockets {
            // SAFETY: all messages point to parts and data that live as long as this function.
            let took = unsafe {
                libc::sendmmsg(socket.as_raw_fd(), messages.as_mut_ptr(), BURST as u32, 0)
            };
            sent += u64::try_from(took).unwrap_or(0);
        }
    }
    println!("sent={sent} seconds={:.4}", start.elapsed().as_secs_f64());
    Ok(())
}

fn crowd(to: SocketAddr, first: Ipv4Addr, count: u32) -> Outcome {
    const EACH: u32 = 60_000;
    let start = Instant::now();
    // Twice, for queues on the way may overflow.
    for n in (0..count).chain(0..count) {
        let addr = Ipv4Addr::from(u32::from(first).wrapping_add(n / EACH));
        let port = u16::try_from(2000 + n % EACH).expect("below 62000");
        let socket = UdpSocket::bind((addr, port))?;
        socket.send_to(b"hello", to)?;
        if n % 64 == 0 {
            thread::sleep(Duration::from_micros(200));
        }
    }
    println!("clients={count} seconds={:.1}", start.elapsed().as_secs_f64());
    Ok(())
}

fn ping(to: SocketAddr, time: Duration) -> Outcome {
    let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(3))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(3)))?;
    let (start, mut times, mut data) = (Instant::now(), Vec::new(), [7; 32]);
    while start.elapsed() < time {
        let sent = Instant::now();
        stream.write_all(&data)?;
        stream.read_exact(&mut data)?;
        times.push(sent.elapsed());
    }
    // The first ones find cold caches and neighbours still to be asked for.
    let warm = times.len().min(100);
    report(times.len(), 0, start.elapsed(), times.split_off(warm));
    Ok(())
}

/// Prints a count, a duration and the distribution of times in microseconds.
fn report(count: usize, failed: u64, took: Duration, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |share: usize| {
        let place = times.len().saturating_sub(1) * share / 1000;
        times.get(place).map_or(0.0, |time| time.as_secs_f64() * 1e6)
    };
    println!(
        "count={count} failed={failed} seconds={:.4} p50={:.1} p99={:.1} p999={:.1}",
        took.as_secs_f64(),
        at(500),
        at(990),
        at(999)
    );
}

/// One connection of a client.
struct Attempt {
    stream: TcpStream,
    asked: bool,
    began: Instant,
}

fn connect(to: SocketAddr, time: Duration, at_once: usize) -> Outcome {
    let waiting = Waiting::new();
    let mut attempts: Vec<Option<Attempt>> = Vec::new();
    let (mut open, mut failed, mut times) = (0, 0_u64, Vec::new());
    let start = Instant::now();
    while start.elapsed() < time {
        while open < at_once {
            let Some(stream) = begin(to) else {
                failed += 1;
                break;
            };
            let at = stream.as_raw_fd() as usize;
            waiting.add(stream.as_raw_fd(), libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLET);
            attempts.resize_with(attempts.len().max(at + 1), || None);
            attempts[at] = Some(Attempt { stream, asked: false, began: Instant::now() });
            open += 1;
        }
        waiting.wait(100, |fd| {
            let Some(place) = attempts.get_mut(fd as usize) else { return };
            let Some(attempt) = place else { return };
            match step(attempt) {
                Ok(false) => return,
                Ok(true) => times.push(attempt.began.elapsed()),
                Err(_) => failed += 1,
            }
            *place = None;
            open -= 1;
        });
        if failed > 1000 && times.is_empty() {
            return Err("no connection comes about".into());
        }
    }
    report(times.len(), failed, start.elapsed(), times);
    Ok(())
}

/// A connection that is about to be made, with its byte on the way as soon as it is.
fn begin(to: SocketAddr) -> Option<TcpStream> {
    let family = if to.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: takes no pointer.
    let fd = unsafe { libc::socket(family, kind, 0) };
    if fd < 0 {
        return None;
    }
    // SAFETY: the descriptor was just made and is nobody else's.
    let stream = unsafe { <TcpStream as std::os::fd::FromRawFd>::from_raw_fd(fd) };
    // SAFETY: zeros are a valid address of either family.
    let mut name: libc::sockaddr_in6 = unsafe { zeroed() };
    let len = match to {
        SocketAddr::V4(to) => {
            let four = (&raw mut name).cast::<libc::sockaddr_in>();
            // SAFETY: a sockaddr_in6 is larger than a sockaddr_in and aligned as strictly.
            let four = unsafe { &mut *four };
            four.sin_family = libc::AF_INET as u16;
            four.sin_port = to.port().to_be();
            four.sin_addr.s_addr = u32::from_ne_bytes(to.ip().octets());
            size_of::<libc::sockaddr_in>()
        }
        SocketAddr::V6(to) => {
            name.sin6_family = libc::AF_INET6 as u16;
            name.sin6_port = to.port().to_be();
            name.sin6_addr.s6_addr = to.ip().octets();
            size_of::<libc::sockaddr_in6>()
        }
    };
    // SAFETY: `name` holds an address of `len` bytes.
    let made = unsafe { libc::connect(fd, (&raw const name).cast(), len as u32) };
    let under_way = Error::last_os_error().raw_os_error() == Some(libc::EINPROGRESS);
    (made == 0 || under_way).then_some(stream)
}

/// Goes on with a connection for which something has happened; true when it is done.
fn step(attempt: &mut Attempt) -> Result<bool, Error> {
    let mut byte = [0];
    match attempt.stream.read(&mut byte) {
        Ok(1) => return Ok(true),
        Ok(_) => return Err(ErrorKind::UnexpectedEof.into()),
        Err(e) if e.kind() == ErrorKind::WouldBlock => {}
        Err(e) => return Err(e),
    }
    // Nothing to read yet: it has just been made, and the byte is to be sent, once.
    if !std::mem::replace(&mut attempt.asked, true) {
        attempt.stream.write_all(b"x")?;
    }
    Ok(false)
}
