//! The load: streams of calls, each made as soon as the one before is answered, and every answer compared.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use http::header::{AUTHORIZATION, HOST};
use http::{HeaderValue, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use kombify_contracts::kombify::identity::v1::identity_service_client::IdentityServiceClient;
use kombify_contracts::kombify::identity::v1::{WhoAmIRequest, WhoAmIResponse};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};

use crate::Fault;
use crate::mint::SUB;
use crate::servers::Served;

/// One tick of the processor times that Linux tells. Source: proc(5), `USER_HZ`.
const TICK: Duration = Duration::from_millis(10);

/// One stream of calls.
#[async_trait]
trait Call: Send {
    /// Makes one call; an answer that is not the one expected is a fault.
    async fn call(&mut self) -> Result<(), Fault>;
}

/// One of the calls that are under way on a connection of HTTP/2.
struct Grpc {
    client: IdentityServiceClient<Channel>,
    token: Option<MetadataValue<Ascii>>,
    expected: WhoAmIResponse,
}

impl Grpc {
    async fn ask(&mut self) -> Result<WhoAmIResponse, Fault> {
        let mut request = tonic::Request::new(WhoAmIRequest {});
        if let Some(token) = &self.token {
            request.metadata_mut().insert("authorization", token.clone());
        }
        Ok(self.client.who_am_i(request).await?.into_inner())
    }
}

#[async_trait]
impl Call for Grpc {
    async fn call(&mut self) -> Result<(), Fault> {
        let answer = self.ask().await?;
        if answer == self.expected { Ok(()) } else { Err(format!("another answer: {answer:?}").into()) }
    }
}

/// One connection of HTTP/1.1 that is kept alive.
struct Json {
    sender: http1::SendRequest<Empty<Bytes>>,
    host: HeaderValue,
    token: HeaderValue,
    expected: Bytes,
    _connection: JoinSet<()>,
}

impl Json {
    async fn open(front: &Served, token: &str, expected: &Bytes) -> Result<Self, Fault> {
        let stream = TcpStream::connect(front.address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake::<_, Empty<Bytes>>(TokioIo::new(stream)).await?;
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            let _ = connection.await; // The next call says what is wrong.
        });
        Ok(Self {
            sender,
            host: front.address.to_string().parse()?,
            token: format!("Bearer {token}").parse()?,
            expected: expected.clone(),
            _connection: driver,
        })
    }

    async fn ask(&mut self) -> Result<Bytes, Fault> {
        let request = http::Request::get("/v1/whoami")
            .header(HOST, self.host.clone())
            .header(AUTHORIZATION, self.token.clone())
            .body(Empty::new())?;
        self.sender.ready().await?;
        let response = self.sender.send_request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        if status == StatusCode::OK { Ok(body) } else { Err(format!("{status}: {body:?}").into()) }
    }
}

#[async_trait]
impl Call for Json {
    async fn call(&mut self) -> Result<(), Fault> {
        let answer = self.ask().await?;
        if answer == self.expected { Ok(()) } else { Err(format!("another answer: {answer:?}").into()) }
    }
}

/// What the rooms answer to the tokens: it must speak of their user, and be the same for each; and without a token
/// there must be none, or the rooms were not there.
pub(crate) async fn rooms_answer(rooms: &Served, tokens: &[String]) -> Result<WhoAmIResponse, Fault> {
    let client = IdentityServiceClient::new(connect(rooms).await?);
    let expected = WhoAmIResponse::default();
    if (Grpc { client: client.clone(), token: None, expected: expected.clone() }).ask().await.is_ok() {
        return Err("the rooms let somebody in without a token".into());
    }
    let mut answers = Vec::new();
    for token in tokens {
        let token = Some(bearer(token)?);
        answers.push(Grpc { client: client.clone(), token, expected: expected.clone() }.ask().await?);
    }
    let answer = answers.first().cloned().unwrap_or_default();
    let right = answer.data.as_ref().is_some_and(|who| who.user_id == SUB && who.roles == ["user"]);
    if right && answers.iter().all(|other| *other == answer) {
        Ok(answer)
    } else {
        Err(format!("the tokens are not understood: {answers:?}").into())
    }
}

/// What the gateway answers as JSON: it must speak of the tokens' user.
pub(crate) async fn gateway_answer(front: &Served, tokens: &[String]) -> Result<Bytes, Fault> {
    let token = tokens.first().ok_or("there is no token")?;
    let answer = Json::open(front, token, &Bytes::new()).await?.ask().await?;
    let read: Value = serde_json::from_slice(&answer)?;
    if read["data"]["userId"] == SUB { Ok(answer) } else { Err(format!("another answer: {read}").into()) }
}

/// What is called, and over what.
pub(crate) struct Target {
    pub(crate) name: &'static str,
    /// The runtimes that serve it.
    runtimes: &'static [&'static str],
    streams: Vec<Box<dyn Call>>,
}

/// What one round has shown.
pub(crate) struct Round {
    pub(crate) calls_per_second: f64,
    /// The time that half the calls, and 99 of 100, took at most.
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    /// What each runtime that serves used of the processor for one call; empty where the system does not tell.
    pub(crate) cpu: Vec<Duration>,
}

impl Target {
    /// So many calls at once on one connection of HTTP/2; the streams take the tokens in turn.
    pub(crate) async fn grpc(
        name: &'static str,
        runtimes: &'static [&'static str],
        served: &Served,
        streams: usize,
        tokens: &[String],
        expected: &WhoAmIResponse,
    ) -> Result<Self, Fault> {
        let client = IdentityServiceClient::new(connect(served).await?);
        let tokens = tokens.iter().map(|token| bearer(token)).collect::<Result<Vec<_>, _>>()?;
        let mut in_turn = tokens.iter().cycle();
        let streams = (0..streams).map(|_| -> Box<dyn Call> {
            let token = in_turn.next().cloned();
            Box::new(Grpc { client: client.clone(), token, expected: expected.clone() })
        });
        Ok(Self { name, runtimes, streams: streams.collect() })
    }

    /// So many connections of HTTP/1.1, one call at once on each; they take the tokens in turn.
    pub(crate) async fn json(
        name: &'static str,
        runtimes: &'static [&'static str],
        front: &Served,
        connections: usize,
        tokens: &[String],
        expected: &Bytes,
    ) -> Result<Self, Fault> {
        let mut streams: Vec<Box<dyn Call>> = Vec::new();
        for token in tokens.iter().cycle().take(connections) {
            streams.push(Box::new(Json::open(front, token, expected).await?));
        }
        Ok(Self { name, runtimes, streams })
    }

    /// Calls for as long as `length`.
    pub(crate) async fn round(&mut self, length: Duration) -> Result<Round, Fault> {
        let used_before = self.used();
        let begun = Instant::now();
        let mut tasks = JoinSet::new();
        for mut stream in self.streams.drain(..) {
            tasks.spawn(async move {
                let mut times = Vec::new();
                loop {
                    let called = Instant::now();
                    if called.duration_since(begun) >= length {
                        return Ok::<_, Fault>((stream, times));
                    }
                    stream.call().await?;
                    times.push(called.elapsed());
                }
            });
        }
        let ended = tasks.join_all().await;
        let elapsed = begun.elapsed();
        let used_after = self.used();
        let mut times = Vec::new();
        for stream in ended {
            let (stream, took) = stream?;
            self.streams.push(stream);
            times.extend(took);
        }
        times.sort_unstable();
        let last = times.len().checked_sub(1).ok_or("no call was made")?;
        let calls = u32::try_from(times.len())?;
        let used = used_before.iter().zip(&used_after).map(|(before, after)| after.saturating_sub(*before));
        Ok(Round {
            calls_per_second: f64::from(calls) / elapsed.as_secs_f64(),
            p50: times[last / 2],
            p99: times[last * 99 / 100],
            cpu: used.map(|used| used / calls).collect(),
        })
    }

    /// What each runtime that serves has used of the processor so far.
    fn used(&self) -> Vec<Duration> {
        self.runtimes.iter().filter_map(|threads| used_by(threads)).collect()
    }
}

/// What the threads of that name have used of the processor so far; `None` where the system does not tell.
fn used_by(threads: &str) -> Option<Duration> {
    let mut ticks = 0;
    for task in std::fs::read_dir("/proc/self/task").ok()?.flatten() {
        let Ok(stat) = std::fs::read_to_string(task.path().join("stat")) else { continue };
        let Some((head, rest)) = stat.rsplit_once(')') else { continue };
        if head.split_once('(').is_some_and(|(_, name)| name == threads) {
            // After the name: the state, ten numbers, and then the times in the process and in the kernel.
            let times = rest.split_whitespace().skip(11).take(2);
            ticks += times.filter_map(|time| time.parse::<u32>().ok()).sum::<u32>();
        }
    }
    Some(TICK * ticks)
}

async fn connect(served: &Served) -> Result<Channel, Fault> {
    Ok(Endpoint::from_shared(served.url())?.tcp_nodelay(true).connect().await?)
}

fn bearer(token: &str) -> Result<MetadataValue<Ascii>, Fault> {
    Ok(format!("Bearer {token}").parse()?)
}
