//! Names to addresses and services.

use std::{net::IpAddr, time::Duration};

use hickory_resolver::{
    ResolverBuilder, TokioResolver,
    config::{LookupIpStrategy, ResolverConfig},
    net::{NetError, runtime::TokioRuntimeProvider},
    proto::rr::RData,
};

use crate::{
    limits::{DNS_ANSWERS_CACHED, DNS_NEGATIVE_MAX, DNS_NEGATIVE_MIN, DNS_POSITIVE_MAX, DNS_POSITIVE_MIN},
    store::BoxFuture,
};

/// Where a service of a name is offered.
///
/// RFC 2782
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Lower ones are tried first.
    pub priority: u16,
    /// Among equal priorities, how often it should be chosen.
    pub weight: u16,
    /// The port.
    pub port: u16,
    /// The name of the machine, without a dot at its end.
    pub target: String,
}

/// A look-up that gave no answer, which is not the answer that there is nothing.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the look-up of {name} failed: {why}")]
pub struct DnsError {
    name: String,
    why: String,
}

impl DnsError {
    /// `name` could not be looked up.
    #[must_use]
    pub fn new(name: &str, why: impl std::fmt::Display) -> Self {
        Self { name: String::from(name), why: why.to_string() }
    }
}

/// Answers questions about names.
pub trait Dns: Send + Sync + 'static {
    /// The addresses of `name`; none if there is no such name.
    fn addresses<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, DnsError>>;

    /// Where the service `name`, say `_matrix-fed._tcp.example.org`, is offered; nowhere if there is no such name.
    fn services<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<Service>, DnsError>>;
}

/// The DNS as this machine is set up to use it, and `/etc/hosts`. Answers are kept as long as they say.
pub struct SystemDns(TokioResolver);

impl SystemDns {
    /// Reads `/etc/resolv.conf` and `/etc/hosts`.
    ///
    /// # Errors
    /// When they make no sense.
    pub fn open() -> Result<Self, DnsError> {
        let builder = TokioResolver::builder_tokio().unwrap_or_else(|error| {
            // Names in `/etc/hosts` and addresses still work.
            tracing::warn!(%error, "the DNS cannot be asked: /etc/resolv.conf cannot be read");
            let nobody = ResolverConfig::from_parts(None, Vec::new(), Vec::new());
            TokioResolver::builder_with_config(nobody, TokioRuntimeProvider::default())
        });
        Self::asking(builder)
    }

    fn asking(mut builder: ResolverBuilder<TokioRuntimeProvider>) -> Result<Self, DnsError> {
        let options = builder.options_mut();
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        options.cache_size = DNS_ANSWERS_CACHED;
        options.positive_min_ttl = Some(DNS_POSITIVE_MIN);
        options.positive_max_ttl = Some(DNS_POSITIVE_MAX);
        options.negative_min_ttl = Some(DNS_NEGATIVE_MIN);
        options.negative_max_ttl = Some(DNS_NEGATIVE_MAX);
        options.timeout = options.timeout.min(Duration::from_secs(5));
        options.try_tcp_on_error = true;
        Ok(Self(builder.build().map_err(|error| DnsError::new("any name", error))?))
    }
}

/// With a dot at its end no search domain of this machine is tried.
fn absolute(name: &str) -> String {
    format!("{}.", name.trim_end_matches('.'))
}

fn or_nothing<T>(name: &str, error: &NetError) -> Result<Vec<T>, DnsError> {
    match error.is_no_records_found() {
        true if error.is_nx_domain() || is_empty_answer(error) => Ok(Vec::new()),
        _ => Err(DnsError::new(name, error)),
    }
}

/// Whether a name is there, but not with such records. A server that fails or refuses has told nothing.
fn is_empty_answer(error: &NetError) -> bool {
    use hickory_resolver::{net::DnsError as Told, proto::op::ResponseCode};
    match error {
        NetError::Dns(Told::NoRecordsFound(none)) => none.response_code == ResponseCode::NoError,
        _ => false,
    }
}

impl Dns for SystemDns {
    fn addresses<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, DnsError>> {
        Box::pin(async move {
            match self.0.lookup_ip(absolute(name)).await {
                Ok(found) => Ok(found.iter().collect()),
                Err(error) => or_nothing(name, &error),
            }
        })
    }

    fn services<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<Service>, DnsError>> {
        Box::pin(async move {
            let found = match self.0.srv_lookup(absolute(name)).await {
                Ok(found) => found,
                Err(error) => return or_nothing(name, &error),
            };
            let service = |data: &RData| match data {
                RData::SRV(srv) => Some(Service {
                    priority: srv.priority,
                    weight: srv.weight,
                    port: srv.port,
                    target: String::from(srv.target.to_ascii().trim_end_matches('.')),
                }),
                _ => None,
            };
            Ok(found.answers().iter().filter_map(|record| service(&record.data)).collect())
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use hickory_resolver::{
        config::{ConnectionConfig, NameServerConfig},
        proto::{
            op::{Message, ResponseCode},
            rr::{
                Name, Record, RecordType,
                rdata::{A, SOA, SRV},
            },
        },
    };
    use parking_lot::Mutex;
    use tokio::net::UdpSocket;

    use super::*;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    /// What a small zone says: which code, and which data.
    fn told(asked: &str, kind: RecordType) -> (ResponseCode, Vec<RData>) {
        let service =
            |priority, weight, port, at: &str| RData::SRV(SRV::new(priority, weight, port, name(at)));
        match (asked, kind) {
            ("a.test.", RecordType::A) => (ResponseCode::NoError, vec![RData::A(A::new(192, 0, 2, 1))]),
            ("a.test.", _) => (ResponseCode::NoError, Vec::new()),
            ("_matrix-fed._tcp.a.test.", RecordType::SRV) => {
                let both = vec![service(10, 0, 1, "x.test."), service(5, 3, 8_448, "m.a.test.")];
                (ResponseCode::NoError, both)
            }
            ("down.test.", _) => (ResponseCode::ServFail, Vec::new()),
            _ => (ResponseCode::NXDomain, Vec::new()),
        }
    }

    /// Answers for the zone until the end of the test, and writes down what it was asked.
    async fn serve(socket: &UdpSocket, asked: &Mutex<Vec<String>>) {
        let mut packet = [0; 1_500];
        loop {
            let (length, from) = socket.recv_from(&mut packet).await.unwrap();
            let question = Message::from_vec(&packet[..length]).unwrap();
            let query = question.queries[0].clone();
            let text = query.name().to_ascii().to_lowercase();
            asked.lock().push(format!("{text} {}", query.query_type()));
            let (code, data) = told(&text, query.query_type());
            let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
            answer.metadata.response_code = code;
            answer.queries.push(query.clone());
            if data.is_empty() {
                let zone = SOA::new(name("ns.test."), name("host.test."), 1, 60, 60, 60, 60);
                answer.authorities.push(Record::from_rdata(name("test."), 60, RData::SOA(zone)));
            }
            answer
                .add_answers(data.into_iter().map(|data| Record::from_rdata(query.name().clone(), 60, data)));
            socket.send_to(&answer.to_vec().unwrap(), from).await.unwrap();
        }
    }

    #[tokio::test]
    async fn what_is_not_there_is_told_from_what_could_not_be_asked() {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let mut connection = ConnectionConfig::udp();
        connection.port = socket.local_addr().unwrap().port();
        let server = NameServerConfig::new(Ipv4Addr::LOCALHOST.into(), true, vec![connection]);
        let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
        let builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        let (dns, asked) = (SystemDns::asking(builder).unwrap(), Mutex::new(Vec::<String>::new()));
        let questions = async {
            let here: Vec<IpAddr> = vec![Ipv4Addr::new(192, 0, 2, 1).into()];
            assert_eq!(dns.addresses("a.test").await.unwrap(), here);
            assert!(dns.addresses("gone.test").await.unwrap().is_empty());
            let found = dns.services("_matrix-fed._tcp.a.test").await.unwrap();
            let service = |priority, weight, port, target: &str| Service {
                priority,
                weight,
                port,
                target: target.into(),
            };
            assert_eq!(found, [service(10, 0, 1, "x.test"), service(5, 3, 8_448, "m.a.test")]);
            for nowhere in ["_matrix._tcp.a.test", "a.test"] {
                assert!(dns.services(nowhere).await.unwrap().is_empty(), "{nowhere}");
            }
            dns.addresses("down.test").await.unwrap_err();
            dns.services("down.test").await.unwrap_err();
            // Answers hold for a while, those that say no too.
            let before = asked.lock().len();
            assert_eq!(dns.addresses("a.test").await.unwrap(), here);
            assert!(dns.addresses("gone.test").await.unwrap().is_empty());
            assert!(dns.services("_matrix._tcp.a.test").await.unwrap().is_empty());
            assert_eq!(asked.lock()[before..], Vec::<String>::new());
        };
        tokio::select! {
            () = serve(&socket, &asked) => {}
            () = questions => {}
        }
    }
}
