//! Where traces go: `--otlp`, and the variables that OpenTelemetry's own tools read. Does not own: spans and how they travel
//! (`pondera-server`).
use crate::error::{Error, Result};
use pondera_server::{Encoding, Sampling, Traces};
use std::time::Duration;

/// What leaves this machine about requests: nothing unless it is asked for.
#[derive(clap::Args, Clone, Debug, Default)]
#[command(next_help_heading = "Telemetry")]
pub struct Telemetry {
    /// Send traces to this OpenTelemetry collector, over HTTP (http://HOST:4318) [default: OTEL_EXPORTER_OTLP_ENDPOINT, or nowhere]
    #[arg(long, value_name = "URL")]
    otlp: Option<String>,
}

/// Looks up a variable.
type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

impl Telemetry {
    /// What the flag and the environment ask for; none where neither does.
    pub fn traces(&self) -> Result<Option<Traces>> {
        self.asked(&|name| std::env::var(name).ok().filter(|v| !v.trim().is_empty()))
    }

    fn asked(&self, variable: Variables<'_>) -> Result<Option<Traces>> {
        let of_traces = |name: &str| {
            let own = format!("OTEL_EXPORTER_OTLP_TRACES_{name}");
            let shared = format!("OTEL_EXPORTER_OTLP_{name}");
            variable(&own).map(|v| (own, v)).or_else(|| variable(&shared).map(|v| (shared, v)))
        };
        let off = variable("OTEL_SDK_DISABLED").is_some_and(|v| v.trim().eq_ignore_ascii_case("true"))
            || variable("OTEL_TRACES_EXPORTER").is_some_and(|v| v.trim() == "none");
        let (from, url) = match (&self.otlp, of_traces("ENDPOINT")) {
            (Some(url), _) => ("--otlp".to_string(), url.clone()),
            (None, Some((from, url))) if !off => (from, url),
            _ => return Ok(None),
        };
        // The variable for traces alone names the whole path.
        let whole = from.ends_with("TRACES_ENDPOINT");
        let url = if whole { url } else { format!("{}/v1/traces", url.trim().trim_end_matches('/')) };
        let wrong = |from: &str, why: String| Error::usage(format!("{from}: {why}"));
        let mut traces = Traces::new(url.trim())
            .map_err(|why| wrong(&from, why).hint("a collector takes OTLP over HTTP at http://HOST:4318"))?;
        if let Some((from, protocol)) = of_traces("PROTOCOL") {
            traces.encoding = match protocol.trim() {
                "http/protobuf" => Encoding::Protobuf,
                "http/json" => Encoding::Json,
                other => {
                    let hint = "say http/protobuf, and the collector's port for HTTP (4318)";
                    return Err(wrong(&from, format!("{other:?} is not spoken")).hint(hint));
                }
            };
        }
        if let Some((from, headers)) = of_traces("HEADERS") {
            for (name, value) in pairs(&headers).map_err(|why| wrong(&from, why))? {
                traces.header(&name, &value).map_err(|why| wrong(&from, why))?;
            }
        }
        if let Some((from, compression)) = of_traces("COMPRESSION").filter(|c| c.1.trim() != "none") {
            tracing::warn!("{from}: {} is not done: traces are sent as they are", compression.trim());
        }
        if let Some((from, ms)) = of_traces("TIMEOUT") {
            traces.timeout = milliseconds(&ms).map_err(|why| wrong(&from, why))?;
        }
        let number = |name: &str, otherwise: usize| match variable(name) {
            Some(text) => match text.trim().parse() {
                Ok(n) if n > 0 => Ok(n),
                _ => Err(wrong(name, format!("{text:?}: expected a number of at least 1"))),
            },
            None => Ok(otherwise),
        };
        traces.waiting = number("OTEL_BSP_MAX_QUEUE_SIZE", traces.waiting)?;
        traces.batch = number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", traces.batch)?;
        if let Some(ms) = variable("OTEL_BSP_SCHEDULE_DELAY") {
            traces.delay = milliseconds(&ms).map_err(|why| wrong("OTEL_BSP_SCHEDULE_DELAY", why))?;
        }
        traces.sampling = sampling(variable)?;
        traces.resource = resource(variable)?;
        Ok(Some(traces))
    }
}

fn milliseconds(text: &str) -> std::result::Result<Duration, String> {
    text.trim().parse().map(Duration::from_millis).map_err(|_| format!("{text:?}: expected milliseconds"))
}

/// `service.name` wins over what the attributes say of it.
fn resource(variable: Variables<'_>) -> Result<Vec<(String, String)>> {
    let name = "OTEL_RESOURCE_ATTRIBUTES";
    let mut all = pairs(&variable(name).unwrap_or_default()).map_err(|why| Error::usage(format!("{name}: {why}")))?;
    let service = variable("OTEL_SERVICE_NAME");
    if service.is_some() || !all.iter().any(|(name, _)| name == "service.name") {
        all.retain(|(name, _)| name != "service.name");
        all.insert(0, ("service.name".into(), service.unwrap_or_else(|| "pondera".into())));
    }
    if !all.iter().any(|(name, _)| name == "service.version") {
        all.push(("service.version".into(), env!("CARGO_PKG_VERSION").into()));
    }
    Ok(all)
}

fn sampling(variable: Variables<'_>) -> Result<Sampling> {
    let (name, argument) = ("OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG");
    let sampler = variable(name).unwrap_or_else(|| "parentbased_always_on".into());
    let (follow, own) = match sampler.trim().strip_prefix("parentbased_") {
        Some(own) => (true, own),
        None => (false, sampler.trim()),
    };
    let ratio = match own {
        "always_on" => 1.0,
        "always_off" => 0.0,
        "traceidratio" => match variable(argument).map_or(Ok(1.0), |text| text.trim().parse::<f64>()) {
            Ok(ratio) if (0.0..=1.0).contains(&ratio) => ratio,
            _ => return Err(Error::usage(format!("{argument}: expected a number from 0 to 1"))),
        },
        _ => {
            return Err(Error::usage(format!("{name}: {sampler:?} is not known"))
                .hint("always_on, always_off, traceidratio, each also with parentbased_ in front"));
        }
    };
    Ok(Sampling { ratio, follow })
}

/// `name=value,name=value`, values with `%XX` where a byte must not stand (W3C Baggage). Nothing of a value is in an error.
fn pairs(text: &str) -> std::result::Result<Vec<(String, String)>, String> {
    let whole = |pair: &str| {
        let (name, value) = pair.split_once('=').ok_or("expected NAME=VALUE, with commas between them")?;
        let (name, value) = (decoded(name.trim())?, decoded(value.trim())?);
        if name.is_empty() { Err("a name is empty") } else { Ok((name, value)) }
    };
    let given = text.split(',').filter(|pair| !pair.trim().is_empty());
    given.map(whole).collect::<std::result::Result<_, &str>>().map_err(String::from)
}

fn decoded(text: &str) -> std::result::Result<String, &'static str> {
    let (mut out, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((&byte, after)) = rest.split_first() {
        let digits = after.get(..2).filter(|_| byte == b'%').and_then(|d| std::str::from_utf8(d).ok());
        match digits.and_then(|d| u8::from_str_radix(d, 16).ok()) {
            Some(decoded) => {
                out.push(decoded);
                rest = &after[2..];
            }
            None => {
                out.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8(out).map_err(|_| "a value is no UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(otlp: Option<&str>, variables: &[(&str, &str)]) -> Result<Option<Traces>> {
        let of = |name: &str| variables.iter().find(|v| v.0 == name).map(|v| v.1.to_string());
        Telemetry { otlp: otlp.map(String::from) }.asked(&of)
    }

    #[test]
    fn nothing_is_sent_unless_it_is_asked_for() {
        for variables in [
            &[][..],
            &[("OTEL_SERVICE_NAME", "x"), ("OTEL_TRACES_SAMPLER", "always_on")],
            &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://x:4318"), ("OTEL_SDK_DISABLED", "TRUE")],
            &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://x:4318"), ("OTEL_TRACES_EXPORTER", "none")],
            &[("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://x:4318")],
        ] {
            assert!(asked(None, variables).unwrap().is_none(), "{variables:?}");
        }
    }

    #[test]
    fn the_variables_mean_what_they_mean_elsewhere() {
        let t = asked(
            None,
            &[
                ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://shared:4318/base/"),
                ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
                ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20abc, x=1"),
                ("OTEL_EXPORTER_OTLP_TIMEOUT", "500"),
                ("OTEL_BSP_SCHEDULE_DELAY", "20"),
                ("OTEL_BSP_MAX_QUEUE_SIZE", "7"),
                ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
                ("OTEL_TRACES_SAMPLER_ARG", "0.5"),
                ("OTEL_RESOURCE_ATTRIBUTES", "service.name=other,deployment.environment=a%2Cb"),
                ("OTEL_SERVICE_NAME", "mine"),
            ],
        );
        let t = t.unwrap().unwrap();
        let shown = format!("{t:?}");
        assert!(shown.contains("shared") && shown.contains("/base/v1/traces") && !shown.contains("abc"), "{shown}");
        assert_eq!(
            (t.encoding, t.timeout, t.delay, t.waiting),
            (Encoding::Json, Duration::from_millis(500), Duration::from_millis(20), 7)
        );
        assert_eq!(t.sampling, Sampling { ratio: 0.5, follow: true });
        let resource: Vec<(&str, &str)> = t.resource.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        assert_eq!(resource[..2], [("service.name", "mine"), ("deployment.environment", "a,b")]);
        // The flag wins over the environment, and what is for traces alone over what is for all.
        let shared = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://shared:4318");
        let own = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://own:4318/x");
        assert!(format!("{:?}", asked(None, &[shared, own]).unwrap().unwrap()).contains("path: \"/x\""));
        let flag = asked(Some("http://flag:4318"), &[shared, own, ("OTEL_SDK_DISABLED", "true")]).unwrap().unwrap();
        assert!(format!("{flag:?}").contains("\"flag\"") && flag.encoding == Encoding::Protobuf);
    }

    #[test]
    fn what_is_wrong_is_named_and_no_secret_is_shown() {
        let url = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://x:4318");
        for (variable, value, what) in [
            (
                "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
                "https://x",
                "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: https is not spoken",
            ),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "OTEL_EXPORTER_OTLP_PROTOCOL: \"grpc\" is not spoken"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "secret", "OTEL_EXPORTER_OTLP_HEADERS: expected NAME=VALUE"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "a=sec%0Aret", "OTEL_EXPORTER_OTLP_HEADERS: a: no value"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon", "expected milliseconds"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "0", "OTEL_BSP_MAX_QUEUE_SIZE: \"0\""),
            ("OTEL_TRACES_SAMPLER", "mine", "OTEL_TRACES_SAMPLER: \"mine\""),
            ("OTEL_RESOURCE_ATTRIBUTES", "=x", "OTEL_RESOURCE_ATTRIBUTES: a name is empty"),
        ] {
            let e = asked(None, &[url, (variable, value)]).map(|_| ()).unwrap_err().to_string();
            assert!(e.contains(what) && !e.contains("secret"), "{e}");
        }
        let ratio = [url, ("OTEL_TRACES_SAMPLER", "traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", "2")];
        assert!(asked(None, &ratio).is_err());
    }
}
