//! Connections: our own accept loop, because a client that sends headers a byte at a time must meet a clock.
use crate::{
    Error,
    admission::Admission,
    batch,
    host::ModelSpec,
    metrics::Statuses,
    models::Models,
    options::Options,
    responses::Responses,
    route::{self, App},
    store::Store,
    trace::Tracer,
};
use axum::{extract::Request, response::Response};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Runtime,
    sync::Semaphore,
};

/// A server that listens.
pub struct Server {
    runtime: Runtime,
    listener: TcpListener,
    app: Arc<App>,
}

impl Server {
    /// Opens the models, one after the other, then the address.
    ///
    /// # Errors
    /// A model that does not open; an address that is taken; one that others can reach, without a key.
    pub fn bind(options: Options, models: Vec<ModelSpec>) -> Result<Server, Error> {
        if !options.address.ip().is_loopback() && options.keys.is_empty() {
            let what = format!("{}: others can reach this address, and no key is asked for", options.address);
            return Err(Error::new(std::io::ErrorKind::PermissionDenied, what));
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .max_blocking_threads(16)
            .enable_all()
            .build()?;
        let listener = runtime.block_on(TcpListener::bind(options.address))?;
        let store = options.data.clone().map(|data| owned(&options).and_then(|()| Store::open(data))).transpose()?;
        let models = Models::open(models, &options).map_err(|e| Error::other(format!("{e:#}")))?;
        let models = Arc::new(models);
        let (admission, stopping) = (Arc::new(Admission::default()), AtomicBool::new(false));
        let (started, statuses, store) = (Instant::now(), Statuses::default(), store.map(Arc::new));
        let responses = Responses::default();
        let tracer = options.traces.clone().map(Tracer::start).transpose()?.map(Arc::new);
        let app = App { options, models, admission, stopping, started, statuses, responses, store, tracer };
        Ok(Server { runtime, listener, app: Arc::new(app) })
    }

    /// Where it listens; the port is the system's choice where 0 was asked for.
    ///
    /// # Errors
    /// What the system says.
    pub fn address(&self) -> Result<SocketAddr, Error> {
        self.listener.local_addr()
    }

    /// Names of the models.
    pub fn models(&self) -> Vec<String> {
        self.app.models.cards().iter().map(|m| m.name.clone()).collect()
    }

    /// Answers until the process is told to stop (SIGTERM or Ctrl-C); then takes nothing new and lets what runs end, for as
    /// long as the grace says.
    ///
    /// # Errors
    /// What the system says.
    pub fn run(self) -> Result<(), Error> {
        let Server { runtime, listener, app } = self;
        runtime.block_on(async {
            batch::resume(&app);
            tokio::spawn(app.models.clone().tend());
            let graceful = GracefulShutdown::new();
            let places = Arc::new(Semaphore::new(app.options.limits.connections));
            let mut told = std::pin::pin!(told_to_stop());
            loop {
                // A connection waits in the system's queue until there is a place.
                let place = tokio::select! {
                    place = places.clone().acquire_owned() => place,
                    _ = &mut told => break,
                };
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted,
                    _ = &mut told => break,
                };
                let stream = match accepted {
                    Ok((stream, _)) => stream,
                    Err(e) => {
                        // No descriptors, most likely: others will close.
                        tracing::warn!("a connection was not accepted: {e}");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        continue;
                    }
                };
                let connection = graceful.watch(serve(app.clone(), stream));
                tokio::spawn(async move {
                    // A client that goes away or talks nonsense is no event.
                    let _ = connection.await;
                    drop(place);
                });
            }
            app.stopping.store(true, SeqCst);
            drop(listener);
            tracing::info!("stopping: {} requests are under way", app.admission.requests());
            if let Some(store) = &app.store
                && tokio::time::timeout(PUT_DOWN, store.stop()).await.is_err()
            {
                tracing::warn!("a batch did not put down what it had: its last lines are answered again");
            }
            if tokio::time::timeout(app.options.grace, graceful.shutdown()).await.is_err() {
                tracing::warn!("stopped with requests under way: the time of grace is over");
            }
        });
        runtime.shutdown_timeout(Duration::from_secs(1));
        app.tracer.iter().for_each(|t| t.stop());
        Ok(())
    }
}

/// How long a stop waits for batches to write what they have.
const PUT_DOWN: Duration = Duration::from_secs(5);

/// Files belong to names of keys: a secret may change, and so may the order.
fn owned(options: &Options) -> Result<(), Error> {
    let mut names: Vec<&str> = options.keys.iter().map(|k| k.name.as_str()).collect();
    names.sort_unstable();
    match names.windows(2).find(|two| two[0] == two[1]) {
        Some(twice) => {
            let what = format!("two keys have the name {}: files belong to names", twice[0]);
            Err(Error::new(std::io::ErrorKind::InvalidInput, what))
        }
        None => Ok(()),
    }
}

type Connection<S> = http1::Connection<TokioIo<TcpStream>, S>;

fn serve(
    app: Arc<App>,
    stream: TcpStream,
) -> Connection<
    impl hyper::service::Service<hyper::Request<Incoming>, Response = Response, Error = Infallible, Future: Send>,
> {
    let limits = app.options.limits;
    // Tokens are small and should not wait for one another.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let app = app.clone();
        async move { Ok(route::answer(app, Request::from(request.map(axum::body::Body::new))).await) }
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_time)
        .max_buf_size(limits.header_bytes.max(8192))
        .max_headers(128)
        .serve_connection(TokioIo::new(stream), service)
}

/// Ends when the process is told to stop.
async fn told_to_stop() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut term) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = term.recv() => {}
            }
            return;
        }
    }
    let _ = tokio::signal::ctrl_c().await;
}
