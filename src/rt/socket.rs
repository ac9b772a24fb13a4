//! Listening sockets, addresses as text, socket options. System calls that happen once per listener or connection; what
//! happens per request is in `ring`.
//!
//! Options are set on the *listener*: Linux copies TCP_NODELAY and the keepalive settings to every connection it
//! accepts, so that accepting costs no system call beside the accept. All sockets are close-on-exec and in blocking
//! mode, as the ring wants them.
#![expect(unsafe_code, reason = "fchmod(2) on a socket")]

use std::fmt;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use socket2::{Domain, SockAddr, SockRef, Socket, TcpKeepalive, Type};

/// One end of a connection, as Redis writes it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Address {
    /// `127.0.0.1:6379`, `[::1]:6379`.
    Tcp(SocketAddr),
    /// `/path:0`.
    Unix(PathBuf),
    /// A socket that has lost its address: `?:0`.
    Unknown,
}

impl Address {
    /// Whether the other end is on this machine: what `protected-mode` lets in.
    pub fn is_local(&self) -> bool {
        match self {
            Address::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Address::Unix(_) => true,
            Address::Unknown => false,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Without the scope of a link-local address, as inet_ntop writes it.
            Address::Tcp(SocketAddr::V6(address)) => {
                write!(f, "[{}]:{}", address.ip(), address.port())
            }
            Address::Tcp(SocketAddr::V4(address)) => write!(f, "{address}"),
            Address::Unix(path) => write!(f, "{}:0", path.display()),
            Address::Unknown => f.write_str("?:0"),
        }
    }
}

/// The address at the other end. A Unix client has none of its own and is shown with the path it came in by.
pub fn peer_address(socket: BorrowedFd<'_>) -> Address {
    match SockRef::from(&socket).peer_addr() {
        Ok(address) if address.is_unix() => local_address(socket),
        Ok(address) => text_of(&address),
        Err(_) => Address::Unknown,
    }
}

/// The address at this end.
pub fn local_address(socket: BorrowedFd<'_>) -> Address {
    SockRef::from(&socket).local_addr().map_or(Address::Unknown, |address| text_of(&address))
}

fn text_of(address: &SockAddr) -> Address {
    match (address.as_socket(), address.as_pathname()) {
        (Some(address), _) => Address::Tcp(address),
        (None, Some(path)) => Address::Unix(path.to_owned()),
        (None, None) => Address::Unknown,
    }
}

/// How TCP listeners are made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TcpOptions {
    /// Connections that may wait to be accepted (`tcp-backlog`). The kernel caps it at `net.core.somaxconn`.
    pub backlog: u32,
    /// Seconds of silence before the peer is probed (`tcp-keepalive`); 0: never.
    pub keepalive_secs: u32,
    /// Whether several sockets may listen on the same port, and the kernel divides connections between them.
    pub share_port: bool,
}

/// A socket that listens.
#[derive(Debug)]
pub struct Listener {
    /// The socket.
    pub socket: OwnedFd,
    /// Where it listens; for port 0, with the port it got.
    pub address: Address,
}

impl Listener {
    /// Another descriptor of the same socket, for another shard.
    pub fn try_clone(&self) -> io::Result<Listener> {
        Ok(Listener { socket: self.socket.try_clone()?, address: self.address.clone() })
    }
}

/// The TCP listeners of the process while it runs, for whoever has to move them: CONFIG SET of `port`, `bind` and `tcp-keepalive`.
///
/// Belongs to the shard that accepts. The event loop has the listeners themselves; here are second descriptors of the same sockets, and new
/// listeners until the loop takes them in.
#[derive(Debug, Default)]
pub struct TcpDoors {
    open: Vec<OwnedFd>,
    next: Option<Vec<Listener>>,
}

impl TcpDoors {
    /// Over these listeners.
    pub fn over<'a>(listeners: impl Iterator<Item = BorrowedFd<'a>>) -> io::Result<TcpDoors> {
        let open = listeners.map(|socket| socket.try_clone_to_owned()).collect::<io::Result<_>>()?;
        Ok(TcpDoors { open, next: None })
    }

    /// Listens there instead: from now on the kernel takes connections in there, and none any more where it did. Port 0: nowhere. After an
    /// error everything is as it was.
    pub fn move_to(&mut self, list: &[impl AsRef<str>], port: u16, options: TcpOptions) -> Result<(), BindError> {
        let none = BindError {
            what: format!("of port {port}"),
            error: io::Error::new(io::ErrorKind::AddrNotAvailable, "none of the addresses is one of this machine"),
        };
        let bind = || match port {
            0 => Ok(Vec::new()),
            _ => match bind_tcp(list, port, options)? {
                bound if bound.is_empty() && !list.is_empty() => Err(none),
                bound => Ok(bound),
            },
        };
        let is_ours =
            |socket: &OwnedFd| matches!(local_address(socket.as_fd()), Address::Tcp(address) if address.port() == port);
        let bound = if port != 0 && self.open.iter().any(is_ours) {
            // It is our own sockets that are in the way. One that was shut down listens again when it is told to.
            self.open.iter().for_each(shut_down);
            bind().inspect_err(|_| {
                for socket in &self.open {
                    if let Err(error) = SockRef::from(socket).listen(i32::try_from(options.backlog).unwrap_or(i32::MAX))
                    {
                        tracing::error!("a listener that was to move cannot listen any more where it did: {error}");
                    }
                }
            })?
        } else {
            bind()?
        };
        let copies: io::Result<Vec<OwnedFd>> = bound.iter().map(|listener| listener.socket.try_clone()).collect();
        let copies = copies.map_err(|error| BindError { what: format!("of port {port}"), error })?;
        self.open.iter().for_each(shut_down);
        self.open = copies;
        self.next = Some(bound);
        Ok(())
    }

    /// Probes of connections that will be accepted. Those that are there keep theirs.
    pub fn set_keepalive(&self, secs: u32) -> io::Result<()> {
        self.open.iter().try_for_each(|socket| set_keepalive(socket.as_fd(), secs))
    }

    /// The listeners that have taken the place of those that were there, if they have moved.
    pub fn take_next(&mut self) -> Option<Vec<Listener>> {
        self.next.take()
    }
}

/// Why a listener could not be made.
#[derive(Debug)]
pub struct BindError {
    /// What was to be bound, as configured.
    pub what: String,
    /// Why not.
    pub error: io::Error,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Could not create server listening socket {}: {}", self.what, self.error)
    }
}

impl std::error::Error for BindError {}

/// Listens on every address of Redis's `bind` list: `*` is all of IPv4, `::*` all of IPv6, a leading `-` makes an
/// address optional (it may be absent from this machine). Address families that the machine does not have are skipped.
/// Either all others listen, or none does. An empty list binds nothing.
pub fn bind_tcp(list: &[impl AsRef<str>], port: u16, options: TcpOptions) -> Result<Vec<Listener>, BindError> {
    let mut listeners = Vec::new();
    for entry in list.iter().map(AsRef::as_ref) {
        let (optional, name) = entry.strip_prefix('-').map_or((false, entry), |name| (true, name));
        match bind_one(name, port, options) {
            Ok(listener) => listeners.push(listener),
            Err(error) if skips(&error, optional) => {
                tracing::debug!("not listening on {name}:{port}: {error}");
            }
            Err(error) => {
                return Err(BindError { what: format!("{name}:{port}"), error });
            }
        }
    }
    Ok(listeners)
}

/// Whether an address that cannot be bound is passed over.
fn skips(error: &io::Error, optional: bool) -> bool {
    match error.raw_os_error() {
        Some(libc::EADDRNOTAVAIL) => optional,
        Some(
            libc::ENOPROTOOPT | libc::EPROTONOSUPPORT | libc::ESOCKTNOSUPPORT | libc::EPFNOSUPPORT | libc::EAFNOSUPPORT,
        ) => true,
        _ => false,
    }
}

fn bind_one(name: &str, port: u16, options: TcpOptions) -> io::Result<Listener> {
    let addresses: Vec<SocketAddr> = match name {
        "*" => vec![SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port)],
        "::*" => vec![SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port)],
        name => (name, port).to_socket_addrs()?.collect(),
    };
    // A name may stand for several addresses: the first that can be bound is the one.
    let mut failure = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses {
        match listen_tcp(address, options) {
            Ok(listener) => return Ok(listener),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// Listens on one address.
pub fn listen_tcp(address: SocketAddr, options: TcpOptions) -> io::Result<Listener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if address.is_ipv6() {
        // Otherwise `::*` would take the IPv4 port too, and `bind * ::*` fail.
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    if options.share_port {
        socket.set_reuse_port(true)?;
    }
    socket.set_tcp_nodelay(true)?;
    set_keepalive(socket.as_fd(), options.keepalive_secs)?;
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(options.backlog).unwrap_or(i32::MAX))?;
    let socket = OwnedFd::from(socket);
    let address = local_address(socket.as_fd());
    Ok(Listener { socket, address })
}

/// Takes over a socket that somebody else has opened and that listens already.
pub fn adopt(socket: OwnedFd, keepalive_secs: u32) -> io::Result<Listener> {
    SockRef::from(&socket).set_nonblocking(false)?;
    let address = local_address(socket.as_fd());
    if let Address::Tcp(_) = address {
        SockRef::from(&socket).set_tcp_nodelay(true)?;
        set_keepalive(socket.as_fd(), keepalive_secs)?;
    }
    Ok(Listener { socket, address })
}

/// Sets the keepalive probes of a connection, or of a listener and all that it will accept: the first after `secs` of
/// silence, then every third of that, and after three without answer the connection is broken. 0 switches them off.
pub fn set_keepalive(socket: BorrowedFd<'_>, secs: u32) -> io::Result<()> {
    let socket = SockRef::from(&socket);
    if secs == 0 {
        return socket.set_keepalive(false);
    }
    let secs = u64::from(secs);
    let interval = Duration::from_secs((secs / 3).max(1));
    let probes = TcpKeepalive::new().with_time(Duration::from_secs(secs)).with_interval(interval).with_retries(3);
    socket.set_tcp_keepalive(&probes)
}

/// Listens on a Unix socket. `mode` are its permissions (`unixsocketperm`), or the umask's if `None`.
///
/// A socket file left behind by an earlier run is removed, whoever made it, as Redis does; anything else at that path
/// is an error. The permissions are in force before the first connection is possible: the socket is given its mode
/// before it is bound (the kernel makes the file with it, less the umask), the full mode is set after, and only then
/// does it listen; until it listens, connecting is refused.
pub fn listen_unix(path: &Path, mode: Option<u32>, backlog: u32) -> Result<Listener, BindError> {
    let attempt = || {
        match fs::symlink_metadata(path) {
            Ok(found) if found.file_type().is_socket() => fs::remove_file(path)?,
            Ok(_) => {
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, "the file exists and is not a socket"));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        if let Some(mode) = mode {
            // SAFETY: plain system call on a descriptor we own.
            if unsafe { libc::fchmod(socket.as_raw_fd(), mode as libc::mode_t) } != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        socket.bind(&SockAddr::unix(path)?)?;
        if let Some(mode) = mode {
            fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
        }
        socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
        Ok(Listener { socket: socket.into(), address: Address::Unix(path.to_owned()) })
    };
    attempt().map_err(|error| BindError { what: path.display().to_string(), error })
}

/// Tells a connection that was just accepted why it is not wanted. It is closed when the caller drops it; what its socket
/// does not take at once it will not hear.
pub fn refuse(socket: &OwnedFd, message: &[u8]) {
    let socket = SockRef::from(socket);
    // A peer that has gone already, or a full socket, is none of our business.
    let _ = socket.set_nonblocking(true).and_then(|()| socket.send(message));
}

/// Sends what the socket takes at once, on a connection that is about to be closed and on which no send is in flight.
pub fn send_now(socket: &OwnedFd, bytes: &[u8]) {
    if !bytes.is_empty() {
        // As above.
        let _ = SockRef::from(socket).send_with_flags(bytes, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL);
    }
}

/// Ends both directions of a connection: whatever is in flight on it completes. The descriptor stays open.
pub fn shut_down(socket: &OwnedFd) {
    // ENOTCONN: the peer was faster.
    let _ = SockRef::from(socket).shutdown(std::net::Shutdown::Both);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::UnixStream;

    const OPTIONS: TcpOptions = TcpOptions { backlog: 511, keepalive_secs: 300, share_port: false };

    fn accept(listener: &Listener) -> OwnedFd {
        TcpListener::from(listener.socket.try_clone().unwrap()).accept().unwrap().0.into()
    }

    fn port(listener: &Listener) -> u16 {
        match listener.address {
            Address::Tcp(address) => address.port(),
            _ => panic!("{listener:?}"),
        }
    }

    #[test]
    fn accepted_connections_inherit_nodelay_and_keepalive_from_the_listener() {
        let listener = bind_tcp(&["127.0.0.1"], 0, OPTIONS).unwrap().remove(0);
        let client = TcpStream::connect(("127.0.0.1", port(&listener))).unwrap();
        let accepted = accept(&listener);
        let socket = SockRef::from(&accepted);
        assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(300));
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), Duration::from_secs(100));
        assert_eq!(peer_address(accepted.as_fd()).to_string(), client.local_addr().unwrap().to_string());
        assert_eq!(local_address(accepted.as_fd()).to_string(), listener.address.to_string());
        assert!(peer_address(accepted.as_fd()).is_local());
        set_keepalive(accepted.as_fd(), 0).unwrap();
        assert!(!socket.keepalive().unwrap());
    }

    #[test]
    fn addresses_print_as_redis_prints_them() {
        let text = |address: &str| Address::Tcp(address.parse().unwrap()).to_string();
        assert_eq!(text("127.0.0.1:6379"), "127.0.0.1:6379");
        assert_eq!(text("[::1]:6379"), "[::1]:6379");
        assert_eq!(Address::Unix("/tmp/a.sock".into()).to_string(), "/tmp/a.sock:0");
        assert!(!Address::Tcp("10.0.0.1:1".parse().unwrap()).is_local());
        assert!(Address::Tcp("[::ffff:127.0.0.1]:1".parse().unwrap()).is_local());
    }

    #[test]
    fn the_star_of_both_families_binds_the_same_port_twice() {
        let v4 = bind_tcp(&["*"], 0, OPTIONS).unwrap().remove(0);
        let both = bind_tcp(&["-::*"], port(&v4), OPTIONS).unwrap();
        assert!(both.len() <= 1, "one, or none on a machine without IPv6");
    }

    #[test]
    fn an_address_of_another_machine_is_an_error_unless_optional() {
        let error = bind_tcp(&["192.0.2.1"], 0, OPTIONS).unwrap_err();
        assert!(error.to_string().contains("192.0.2.1:0"), "{error}");
        assert!(bind_tcp(&["-192.0.2.1"], 0, OPTIONS).unwrap().is_empty());
    }

    #[test]
    fn a_taken_port_is_an_error_even_when_optional() {
        let first = bind_tcp(&["127.0.0.1"], 0, OPTIONS).unwrap().remove(0);
        assert!(bind_tcp(&["-127.0.0.1"], port(&first), OPTIONS).is_err());
        let shared = TcpOptions { share_port: true, ..OPTIONS };
        let one = bind_tcp(&["127.0.0.1"], 0, shared).unwrap().remove(0);
        assert_eq!(bind_tcp(&["127.0.0.1"], port(&one), shared).unwrap().len(), 1);
    }

    #[test]
    fn listeners_move_to_another_address_of_the_same_port_and_back() {
        let any = bind_tcp(&["*"], 0, OPTIONS).unwrap();
        let port = port(&any[0]);
        let mut doors = TcpDoors::over(any.iter().map(|listener| listener.socket.as_fd())).unwrap();
        let reached = |host: &str| TcpStream::connect((host, port)).is_ok();
        assert!(reached("127.0.0.2"));
        doors.move_to(&["127.0.0.1"], port, OPTIONS).unwrap();
        let one = doors.take_next().unwrap();
        assert!(one.len() == 1 && reached("127.0.0.1") && !reached("127.0.0.2"));
        assert!(doors.move_to(&["192.0.2.1"], port, OPTIONS).is_err(), "an address of another machine");
        assert!(doors.take_next().is_none() && reached("127.0.0.1"), "it listens where it did");
        doors.move_to(&["*"], 0, OPTIONS).unwrap();
        assert!(!reached("127.0.0.1"), "port 0 is nowhere");
    }

    #[test]
    fn listeners_stay_where_they_are_when_a_port_is_taken() {
        let (ours, others) =
            (bind_tcp(&["127.0.0.1"], 0, OPTIONS).unwrap(), bind_tcp(&["127.0.0.1"], 0, OPTIONS).unwrap());
        let mut doors = TcpDoors::over(ours.iter().map(|listener| listener.socket.as_fd())).unwrap();
        assert!(doors.move_to(&["127.0.0.1"], port(&others[0]), OPTIONS).is_err());
        assert!(TcpStream::connect(("127.0.0.1", port(&ours[0]))).is_ok());
    }

    #[test]
    fn cve_2023_45145_a_unix_socket_never_has_more_rights_than_configured() {
        let folder = std::env::temp_dir().join(format!("annulus-socket-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("s.sock");
        let listener = listen_unix(&path, Some(0o700), 16).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        let client = UnixStream::connect(&path).unwrap();
        let accepted = std::os::unix::net::UnixListener::from(listener.socket.try_clone().unwrap()).accept().unwrap().0;
        let expected = format!("{}:0", path.display());
        assert_eq!(peer_address(accepted.as_fd()).to_string(), expected);
        assert_eq!(local_address(accepted.as_fd()).to_string(), expected);
        drop((client, accepted, listener));

        // Its file stays behind; the next run takes its place, with rights that the umask would not give.
        let again = listen_unix(&path, Some(0o777), 16).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o777);
        drop(again);
        fs::remove_file(&path).unwrap();

        fs::write(&path, "precious").unwrap();
        assert!(listen_unix(&path, None, 16).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        fs::remove_dir_all(&folder).unwrap();
    }
}
