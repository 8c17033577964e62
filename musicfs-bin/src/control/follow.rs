//! The client's end of `GET /v1/events`.

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper_util::rt::TokioIo;
use serde_json::Value;

use super::api::Failure;
use super::client::{Client, ClientError, checked};
use super::percent;

/// Longest line of a stream that is taken: no event comes near it.
const LONGEST_LINE: usize = 1 << 20;

/// Whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Follow {
    /// Wait for the next.
    On,
    /// That was enough.
    Enough,
}

impl Client {
    /// Gives each event to `each`, from now on, until that has enough or the daemon ends. `listening` is called once
    /// events are listened for.
    pub(crate) async fn follow(
        &self,
        types: &[String],
        listening: impl FnOnce(),
        mut each: impl FnMut(Value) -> Follow,
    ) -> Result<(), ClientError> {
        let address = format!("/v1/events?type={}", percent::encode(types.join(",").as_bytes()));
        checked(&address)?;
        let stream = self.connect().await?;
        let shaken = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = shaken.map_err(|error| self.broken(error))?;
        let driven = tokio::spawn(connection);
        let request = Request::get(address)
            .header(hyper::header::HOST, "musicfs")
            .body(Empty::<Bytes>::new())
            .map_err(|error| self.broken(error))?;
        let response = sender.send_request(request).await.map_err(|error| self.broken(error))?;
        if !response.status().is_success() {
            let bytes = response.into_body().collect().await.map_err(|error| self.broken(error))?.to_bytes();
            let failure: Failure = serde_json::from_slice(&bytes).map_err(|error| self.broken(error))?;
            return Err(ClientError::Refused(failure.error));
        }
        listening();
        let mut body = response.into_body();
        let mut lines = Lines::default();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|_| ClientError::Ended { socket: self.place() })?.into_data() else {
                continue;
            };
            for event in lines.feed(&data).map_err(|error| self.broken(error))? {
                if each(event) == Follow::Enough {
                    driven.abort();
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

/// Cuts a stream into lines and takes the data out.
#[derive(Default)]
struct Lines {
    rest: Vec<u8>,
}

impl Lines {
    fn feed(&mut self, data: &[u8]) -> Result<Vec<Value>, Box<dyn std::error::Error + Send + Sync>> {
        let mut events = Vec::new();
        self.rest.extend_from_slice(data);
        let mut begin = 0;
        while let Some(len) = self.rest[begin..].iter().position(|byte| *byte == b'\n') {
            let line = &self.rest[begin..begin + len];
            begin += len + 1;
            if let Some(data) = line.strip_prefix(b"data:") {
                events.push(serde_json::from_slice(data)?);
            }
        }
        self.rest.drain(..begin);
        if self.rest.len() > LONGEST_LINE {
            Err("a line of the stream has no end".into())
        } else {
            Ok(events)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_taken_out_however_the_stream_is_cut() {
        let stream = b"event: a\ndata: {\"n\":1}\nid: 1\n\n:\n\ndata:{\"n\":\"\xc3\xa9\"}\n\n";
        for size in 1..stream.len() {
            let mut lines = Lines::default();
            let found: Vec<Value> = stream
                .chunks(size)
                .flat_map(|part| lines.feed(part).unwrap())
                .map(|event| event["n"].clone())
                .collect();
            assert_eq!(found, [Value::from(1), Value::from("é")], "in parts of {size}");
        }
        let mut endless = Lines::default();
        assert!((0..3).any(|_| endless.feed(&vec![b'x'; LONGEST_LINE]).is_err()));
    }
}
