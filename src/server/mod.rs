//! The process: reads the settings, looks at the machine, starts a core's event loop per shard, and ends them.
//!
//! The only place that knows every part. What happens, in order: command line and files; log; probe of io_uring and limits;
//! listeners; signals; one executor per shard, each with its ring, its mailboxes and its shard; then nothing until they
//! return. Exit code 0 after an orderly shutdown, 1 with one line that names cause and remedy if it cannot start.
//!
//! Absent on purpose: any work for clients. The thread that comes here does nothing while the server runs.

mod check;
mod cli;
mod convert;
mod files;
mod instant;
mod logging;
mod metrics;
mod nodes;
mod rdb_end;
mod restore;
mod sample;
mod source;
mod users;

use std::ffi::OsString;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use cli::Cli;
use logging::Log;

use crate::acl::Users;
use crate::base::ShardId;
use crate::commands::{self, table::Rename};
use crate::config::Config;
use crate::dispatch::{Engine, replay};
use crate::durability::driver::Driver;
use crate::durability::host::ShardHost;
use crate::net::{
    Acceptor, ConfigWatcher, Listener, Questions, Reactor, ReactorParts, SIGNAL_INTERRUPT, SIGNAL_TERMINATE, Transport,
};
use crate::rt::clock::{self, Clock};
use crate::rt::executor::{self, ExecutorConfig};
use crate::rt::mesh::{Endpoint, Mesh};
use crate::rt::park::Parker;
use crate::rt::peers::PeerBoard;
use crate::rt::ring::{Ring, RingConfig};
use crate::rt::socket::{self, TcpOptions};
use crate::rt::{crash, entropy, memory, probe, process, service, signals};
use crate::shard::message::Message;
use crate::shard::nodes::Node;
use crate::shard::{About, Shard, ShardSeed, Stop};
use crate::tls;

/// Slots of each mailbox between two shards; half of them are for requests.
const MAILBOX_SLOTS: usize = 256;
/// Mailboxes of a server with many shards are smaller, so that their number does not cost more than their size. Slots.
const MAILBOX_SLOTS_MANY: usize = 64;
/// From this many shards on.
const MANY_SHARDS: usize = 16;

/// Runs the program with these arguments, the program's name first.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    crash::install_panic_report(VERSION);
    let cli::Run { config, warnings, config_file } = match cli::parse(args.skip(1)) {
        Ok(Cli::Run(run)) => *run,
        Ok(Cli::Check(path)) => return check::run(&path, Clock::new().now().millis()),
        Ok(Cli::Convert(asked)) => return convert::run(&asked, Clock::new().now().millis()),
        Ok(Cli::Restore(asked)) => return restore::run(&asked),
        Ok(Cli::Sample(text) | Cli::Help(text) | Cli::Version(text)) => {
            // A closed pipe is the reader's wish.
            let _ = std::io::stdout().write_all(text.as_bytes());
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let supervision = service::begin(config.supervised);
    if config.daemonize && !supervision.found {
        // While there is one thread, and before anything is opened. The parent leaves when the child is ready, or gone.
        match service::fork() {
            Ok(service::Side::Child) => {}
            Ok(service::Side::Parent(code)) => return ExitCode::from(code),
            Err(error) => {
                eprintln!("annulus: cannot go to the background: {error} (raise the limit on processes, ulimit -u)");
                return ExitCode::FAILURE;
            }
        }
    }
    // A relative name is one in `dir`, as it is in Redis.
    let log_path = config.logfile.to_path().map(|path| config.dir.to_path().unwrap_or_default().join(path));
    let log = match Log::open(log_path.as_deref(), config.loglevel) {
        Ok(log) => log,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    log.install();
    log.take_crash_reports();
    let terminal = log.clone();
    service::when_detached(Box::new(move || terminal.let_go_of_terminal()));
    if config.syslog_enabled
        && let Err(error) = log.to_syslog(&config.syslog_ident.to_string(), config.syslog_facility)
    {
        tracing::warn!("syslog-enabled: there is no syslog to log to: {error}");
    }
    if let Some(warning) = supervision.warning {
        tracing::warn!("{warning}");
    }
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    let config_file = config_file.map(|p| p.display().to_string()).unwrap_or_default();
    match run(config, config_file, &log) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            // The log may go to a file; whoever started the program looks here.
            eprintln!("annulus: {error}");
            ExitCode::FAILURE
        }
    }
}

const VERSION: &str = concat!("annulus ", env!("CARGO_PKG_VERSION"));

/// Prepares the process for its life: what it says when it crashes, and what it asks of the kernel.
fn prepare(config: &Config) {
    let build = if cfg!(debug_assertions) { "with assertions" } else { "release" };
    let command_name = |id| commands::table::table().get(id).full_name.as_str();
    let about = crash::About {
        version: format!("{VERSION}, {build}, {}-bit {}", usize::BITS, std::env::consts::ARCH),
        shards: config.shards,
        command_name,
    };
    crash::take_in_config(config);
    crash::stack_for_faults();
    if let Err(error) = crash::install_fault_report(about) {
        tracing::warn!("a fault would not be reported: {error}");
    }
    if config.disable_thp
        && process::huge_pages_are_forced()
        && let Err(error) = process::disable_huge_pages()
    {
        tracing::warn!("disable-thp: transparent huge pages cannot be turned off: {error}; see tuning/README.md");
    }
    if let Err(error) = process::set_oom_score(config) {
        tracing::warn!("oom-score-adj: the score cannot be set: {error} (less than before takes CAP_SYS_RESOURCE)");
    }
}

/// What one shard's thread takes along.
struct Seed {
    config: Config,
    users: Users,
    endpoint: Endpoint<Message>,
    board: Arc<PeerBoard>,
    about: Arc<About>,
    memory: Arc<memory::Board>,
    hasher: ahash::RandomState,
    acceptor: Option<Acceptor>,
    signals: Option<OwnedFd>,
    questions: Option<Questions>,
    log: Option<Log>,
    tls: Option<tls::Context>,
}

fn run(mut config: Config, config_file: String, log: &Log) -> Result<(), Box<dyn std::error::Error>> {
    let clock = Clock::new();
    let started = clock.now();
    tracing::info!("Annulus is starting");
    tracing::info!(
        "Annulus version={}, pid={}, PID: {}",
        env!("CARGO_PKG_VERSION"),
        std::process::id(),
        std::process::id()
    );

    if let Some(dir) = config.dir.to_path() {
        std::env::set_current_dir(&dir).map_err(|e| format!("cannot change to dir '{}': {e}", dir.display()))?;
    }
    let shards = usize::from(config.shards);

    let report = probe::probe(shards, u64::from(config.maxclients))?;
    for warning in &report.warnings {
        tracing::warn!("{warning}");
    }
    if report.clients_max == 0 {
        return Err(format!(
            "the limit of {} descriptors leaves none for clients beside {shards} shards: raise it with ulimit -n or \
             LimitNOFILE=, or start fewer shards",
            report.descriptors
        )
        .into());
    }
    config.maxclients = config.maxclients.min(u32::try_from(report.clients_max).unwrap_or(u32::MAX));

    let lower = |text: &crate::config::Text| text.to_string().to_ascii_lowercase();
    let renames = config.renamed_commands.iter().map(|r| Rename { from: lower(&r.from), to: lower(&r.to) }).collect();
    commands::table::rename(renames)?;
    let renamed =
        commands::table::table().all().filter(|command| command.parent.is_none() && command.name != command.row.name);
    crate::shard::effects::rename(renamed.map(|c| (c.name.clone(), c.row.name.to_owned())).collect());
    let users = users::declared(&mut config)?;

    prepare(&config);
    let mut tls = None;
    if config.tls_port != 0 {
        let (context, remarks) =
            tls::Context::load(&config, clock::mono_ns).map_err(|error| format!("Failed to configure TLS: {error}"))?;
        remarks.iter().for_each(|remark| tracing::warn!("{remark}"));
        tls = Some(context);
    }

    // Before any thread is made: threads inherit the mask.
    let blocked = signals::block()?;
    let nodes = nodes::nodes(&config)?;
    let listeners = listen(&config, &nodes)?;
    let (signal_sender, signal_receiver) = UnixStream::pair()?;
    let pidfile = PidFile::write(&config);

    let about = Arc::new(About {
        run_id: entropy::hex_id(),
        pid: std::process::id(),
        port: config.port,
        nodes,
        executable: std::env::current_exe().map(|p| p.display().to_string()).unwrap_or_default(),
        config_file,
        os: process::system_name(),
        started_unix: started.unix_secs(),
        started_mono_us: started.mono_us,
    });
    let board = PeerBoard::new(shards);
    let memory = Arc::new(memory::Board::new(shards, memory::thread_bytes));
    let hasher = ahash::RandomState::with_seeds(entropy::u64(), entropy::u64(), entropy::u64(), entropy::u64());
    let slots = if shards >= MANY_SHARDS { MAILBOX_SLOTS_MANY } else { MAILBOX_SLOTS };
    let mut acceptor = Some(Acceptor::new(listeners));
    let mut signals = Some(OwnedFd::from(signal_receiver));
    let mut questions = metrics::serve(&config)?;
    let mut watching = Some(log.clone());
    let seeds: Vec<Seed> = Mesh::build::<Message>(shards, slots)
        .into_iter()
        .map(|endpoint| Seed {
            config: config.clone(),
            users: users.clone(),
            endpoint,
            board: board.clone(),
            about: about.clone(),
            memory: memory.clone(),
            hasher: hasher.clone(),
            acceptor: acceptor.take(),
            signals: signals.take(),
            questions: questions.take(),
            log: watching.take(),
            tls: tls.clone(),
        })
        .collect();

    let mut signal_sender = signal_sender;
    let mut signalled = 0;
    let rotated = log.clone();
    blocked.watch(move |signal| match signal {
        signals::Signal::HangUp | signals::Signal::UserOne => {
            match rotated.reopen() {
                Ok(()) => tracing::info!("The log file was opened anew, as a signal asked"),
                Err(error) => tracing::error!("{error}"),
            }
            service::reloaded();
        }
        signals::Signal::Terminate | signals::Signal::Interrupt => {
            signalled += 1;
            if signalled > 1 {
                tracing::warn!("A second signal: stopping at once");
                std::process::exit(1);
            }
            tracing::warn!("User requested shutdown...");
            // If shard 0 has gone already there is nobody left to stop.
            let which = if signal == signals::Signal::Interrupt { SIGNAL_INTERRUPT } else { SIGNAL_TERMINATE };
            let _ = signal_sender.write_all(&[which]);
        }
    })?;

    service::watch(config.shards)?;
    let cores = config.shard_cpus.iter().map(|&cpu| usize::from(cpu)).collect();
    let pin = ExecutorConfig { shards, pin: true, cores };
    let running = executor::start(&pin, seeds, shard_main)?;
    tracing::info!(
        "Server initialized: {shards} shard{}, io_uring of Linux {}",
        if shards == 1 { "" } else { "s" },
        report.kernel
    );
    let went_well = running.join().into_iter().all(|well| well);
    if let Some(path) = config.unixsocket.to_path() {
        // Somebody else may have removed it.
        let _ = std::fs::remove_file(path);
    }
    drop(pidfile);
    tracing::warn!("Annulus is now ready to exit, bye bye...");
    if went_well { Ok(()) } else { Err("the data could not be loaded; the log says why".into()) }
}

/// One core, from its ring to the end of its loop. False if it could not go on.
async fn shard_main(id: ShardId, seed: Seed) -> bool {
    let clock = Clock::new();
    let shards = seed.endpoint.shards() as u16;
    let config = if usize::from(shards) >= MANY_SHARDS { RingConfig::for_many_shards() } else { RingConfig::default() };
    let mut ring = match Ring::new(config) {
        Ok(ring) => ring,
        Err(error) => {
            tracing::error!("shard {id}: its ring cannot be made: {error}");
            std::process::exit(1);
        }
    };
    ring.join(seed.board, id);
    let replayers = replay::replayers(seed.hasher.clone(), clock::mono_ns, || Clock::new().now());
    let busy_poll = Duration::from_micros(u64::from(seed.config.busy_poll_usec));
    let mut shard = Shard::new(ShardSeed {
        id,
        shards,
        config: seed.config,
        seed: entropy::u64(),
        hasher: seed.hasher,
        about: seed.about,
        board: seed.memory,
        now: clock.now(),
        clock_ns: clock::mono_ns,
    });
    shard.tls = seed.tls;
    shard.acl.users = seed.users;
    let reactor = Reactor::new(ReactorParts {
        engine: Engine::new(shard),
        ring,
        endpoint: seed.endpoint,
        parker: Parker::new(busy_poll),
        acceptor: seed.acceptor,
        signals: seed.signals,
        questions: seed.questions,
        clock,
        disk: Driver::new(ShardHost::default(), replayers),
        on_config: seed.log.map(|log| -> ConfigWatcher {
            Box::new(move |config| {
                log.set_level(config.loglevel);
                crash::take_in_config(config);
            })
        }),
    });
    // Boxed: what a core is made of is too large to be moved about on the stack.
    let shard = Box::pin(reactor.run()).await;
    let went_well = shard.stop != Stop::Failed;
    // Exit is next: giving every key's memory back one by one would only delay it.
    std::mem::forget(shard);
    went_well
}

/// Opens everything that is to be listened on: what the service manager has opened or else what the settings say, and the ports of nodes.
fn listen(config: &Config, nodes: &[Node]) -> Result<Vec<Listener>, Box<dyn std::error::Error>> {
    let backlog = u32::try_from(config.tcp_backlog).unwrap_or(0);
    let mut listeners = Vec::new();
    let keepalive_secs = u32::try_from(config.tcp_keepalive).unwrap_or(0);
    for socket in service::inherited_sockets()? {
        let listener = socket::adopt(socket, keepalive_secs)?;
        let transport = match &listener.address {
            socket::Address::Unix(_) => Transport::Unix,
            socket::Address::Tcp(address) if address.port() == config.tls_port => Transport::Tls,
            _ => Transport::Tcp,
        };
        tracing::info!("Listening on {}, which the service manager has opened", listener.address);
        let name = listener.address.to_string();
        listeners.push(Listener { socket: listener.socket, name, transport, node: None });
    }
    let inherited = !listeners.is_empty();
    let options = TcpOptions { backlog, keepalive_secs, share_port: false };
    let mut listen_on = |port, transport, node| -> Result<(), Box<dyn std::error::Error>> {
        let bound = bind_patiently(config, port, options)?;
        if bound.is_empty() {
            let word = if transport == Transport::Tls { "tls" } else { "tcp" };
            return Err(format!("Failed listening on port {port} ({word}), aborting.").into());
        }
        listeners.extend(bound.into_iter().map(|bound| {
            let name = bound.address.to_string();
            Listener { socket: bound.socket, name, transport, node }
        }));
        Ok(())
    };
    for (shard, node) in nodes.iter().enumerate() {
        listen_on(node.port, Transport::Tcp, Some(ShardId(shard as u16)))?;
    }
    if inherited {
        return Ok(listeners);
    }
    if config.port != 0 {
        listen_on(config.port, Transport::Tcp, None)?;
    }
    if config.tls_port != 0 {
        listen_on(config.tls_port, Transport::Tls, None)?;
    }
    if let Some(path) = config.unixsocket.to_path() {
        let mode = Some(config.unixsocketperm).filter(|m| *m != 0);
        let listener = socket::listen_unix(&path, mode, backlog)?;
        let name = path.display().to_string();
        listeners.push(Listener { socket: listener.socket, name, transport: Transport::Unix, node: None });
    }
    if listeners.is_empty() {
        return Err("nothing to listen on: port and tls-port are 0 and no unixsocket is set".into());
    }
    Ok(listeners)
}

/// How long a port that is taken is tried again. A server that was killed leaves its listener to the kernel's clean-up of its rings, which
/// takes some milliseconds after the process has gone.
const PORT_TAKEN: Duration = Duration::from_secs(1);

fn bind_patiently(config: &Config, port: u16, options: TcpOptions) -> Result<Vec<socket::Listener>, socket::BindError> {
    let until = std::time::Instant::now() + PORT_TAKEN;
    loop {
        match socket::bind_tcp(&config.bind, port, options) {
            Err(error) if error.error.kind() == std::io::ErrorKind::AddrInUse && std::time::Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(10));
            }
            bound => return bound,
        }
    }
}

/// The file that tells others the process's number, for as long as it lives.
struct PidFile {
    path: Option<std::path::PathBuf>,
}

impl PidFile {
    /// One that was left behind is written over. One that cannot be written is no reason not to serve, as in Redis.
    fn write(config: &Config) -> PidFile {
        let path = config.pidfile.to_path().filter(|path| {
            let written = std::fs::write(path, format!("{}\n", std::process::id()));
            written.inspect_err(|e| tracing::warn!("Failed to write PID file '{}': {e}", path.display())).is_ok()
        });
        PidFile { path }
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // If another server has written its own meanwhile, that is not ours to remove.
        let ours = format!("{}\n", std::process::id());
        if let Some(path) = &self.path
            && std::fs::read_to_string(path).is_ok_and(|text| text == ours)
        {
            // Nobody is left to tell if it has gone already.
            let _ = std::fs::remove_file(path);
        }
    }
}
