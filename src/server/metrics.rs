//! The port for metrics and health: `metrics-port`, off unless it is set.
//!
//! Threads of `rt::http` take the requests. What they need to know they ask of shard 0, through a queue and a byte on a socket pair that
//! its loop listens to, and wait for [`ANSWER_TIME`] at most: a server whose shards do not answer is not healthy. Nobody is asked for a
//! password here, and nothing that clients have chosen is told; who may reach the port is decided by `metrics-bind`.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use crate::commands::server::info::exposition::{CONTENT_TYPE, Question, Told, Wanted, render};
use crate::config::Config;
use crate::net::Questions;
use crate::rt::http::{self, Answer};
use crate::rt::socket::{self, TcpOptions};

/// How long the shards may take.
const ANSWER_TIME: Duration = Duration::from_secs(5);
/// Connections that may wait to be accepted.
const BACKLOG: u32 = 64;

/// Opens the port and serves it from now on. Returns what shard 0 is to listen to; none if the port is off.
pub fn serve(config: &Config) -> Result<Option<Questions>, Box<dyn std::error::Error>> {
    if config.metrics_port == 0 {
        return Ok(None);
    }
    let addresses = if config.metrics_bind.is_empty() { &config.bind } else { &config.metrics_bind };
    let options = TcpOptions { backlog: BACKLOG, keepalive_secs: 0, share_port: false };
    let listeners = socket::bind_tcp(addresses, config.metrics_port, options)
        .map_err(|error| format!("metrics-port {}: {error}", config.metrics_port))?;
    if listeners.is_empty() {
        return Err(format!("metrics-port {}: there is no address to listen on", config.metrics_port).into());
    }
    for listener in &listeners {
        tracing::info!("Metrics are served on http://{}/metrics", listener.address);
    }
    let (bell, theirs) = UnixStream::pair()?;
    let (sender, queue) = mpsc::channel();
    let asker = Asker { door: Mutex::new((sender, bell)) };
    http::serve(listeners, move |path| asker.answer(path))?;
    Ok(Some(Questions { bell: OwnedFd::from(theirs), queue }))
}

/// Asks shard 0.
struct Asker {
    door: Mutex<(mpsc::Sender<Question>, UnixStream)>,
}

impl Asker {
    fn ask(&self, what: Wanted) -> Option<Told> {
        let (answer, told) = mpsc::sync_channel(1);
        {
            let mut door = self.door.lock().ok()?;
            door.0.send(Question { what, answer }).ok()?;
            door.1.write_all(b"?").ok()?;
        }
        told.recv_timeout(ANSWER_TIME).ok()
    }

    fn answer(&self, path: &str) -> Answer {
        let silent = || Answer::text(503, "the shards do not answer");
        match path {
            "/metrics" => match self.ask(Wanted::Metrics) {
                Some(Told::Metrics(snapshot)) => match render(&snapshot) {
                    Ok(body) => Answer { status: 200, content_type: CONTENT_TYPE, body },
                    Err(error) => Answer::text(503, format_args!("the metrics cannot be written: {error}")),
                },
                _ => silent(),
            },
            "/healthz" => match self.ask(Wanted::Health) {
                Some(Told::Health(None)) => Answer::text(200, "ok"),
                Some(Told::Health(Some(trouble))) => Answer::text(503, trouble),
                _ => silent(),
            },
            _ => Answer::text(404, "there are /metrics and /healthz"),
        }
    }
}
