//! Serving metrics over HTTP.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus_client::encoding::prometheus_text::CONTENT_TYPE;
use regraft_engine::{Context, Error, Event, Kind, Result};
use tokio::net::TcpListener;

use super::Metrics;
use super::ledger::Asked;

struct Served {
    metrics: Arc<Metrics>,
    ledger: Asked,
}

/// Serves `/metrics` and `/healthz` until the context is cancelled, beside the work; the address that
/// it listens at, which tells the port where `address` leaves the choice to the system (port 0).
/// `/healthz` answers with status 200 where the ledger can be reached, and 503 where it can't.
///
/// `address` is `HOST:PORT`, or a port alone, which is then only reached from this machine.
///
/// # Errors
/// [`Kind::Usage`] for an address that can't be listened at.
pub async fn serve_metrics(
    context: &Context,
    metrics: &Arc<Metrics>,
    address: &str,
) -> Result<SocketAddr> {
    let refused = |error: std::io::Error| {
        Error::new(
            Kind::Usage,
            format!("metrics can't be served at {address}: {error}"),
        )
        .hint("name an address of this machine and a free port, such as `--metrics 127.0.0.1:9464`")
    };
    let listener = match address.parse::<u16>() {
        Ok(port) => TcpListener::bind((IpAddr::V4(Ipv4Addr::LOCALHOST), port)).await,
        Err(_) => TcpListener::bind(address).await,
    };
    let listener = listener.map_err(refused)?;
    let bound = listener.local_addr().map_err(refused)?;
    let served = Arc::new(Served {
        metrics: Arc::clone(metrics),
        ledger: Asked::new(context),
    });
    let router = Router::new()
        .route("/metrics", get(text))
        .route("/healthz", get(health))
        .with_state(served);
    let (events, cancel) = (context.events.clone(), context.cancel.clone());
    tokio::spawn(async move {
        let stop = cancel.clone();
        // What is being answered doesn't keep the process.
        let done = tokio::select! {
            done = axum::serve(listener, router) => done,
            () = stop.cancelled() => Ok(()),
        };
        if let Err(error) = done {
            events.send(Event::Note(format!(
                "metrics are not served any more: {error}; the work goes on"
            )));
        }
    });
    Ok(bound)
}

async fn text(State(served): State<Arc<Served>>) -> impl IntoResponse {
    let observed = served.ledger.observed().await;
    let text = served.metrics.text(observed.as_ref());
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], text)
}

async fn health(State(served): State<Arc<Served>>) -> impl IntoResponse {
    match served.ledger.observed().await {
        Some(_) => (StatusCode::OK, "ok\n"),
        None => (
            StatusCode::SERVICE_UNAVAILABLE,
            "the ledger doesn't answer; see `regraft analyzer system-health`\n",
        ),
    }
}
