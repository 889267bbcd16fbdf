//! A query and what the zone says of it, turned into the bytes of an answer; pure.

use super::zone::{Finding, Records, Zone};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use std::net::IpAddr;

/// Seconds that an answer may be remembered: a service that moves is found again soon.
const TTL: u32 = 5;
/// The largest datagram we send, whatever the client offers: bigger ones are lost in fragments.
const MAX_DATAGRAM: u16 = 1232;
/// The largest datagram for a client that offers nothing.
const PLAIN_DATAGRAM: u16 = 512;

/// What is to be done with a packet.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Send this back.
    Answer(Message),
    /// The name is not ours: ask others for this query.
    Forward(Message),
    /// Not a query at all (perhaps somebody's answer): silence, or two servers would talk for ever.
    Ignore,
}

/// Decides about one packet. `zone` is absent while the names of the cluster are not known yet; `shift` rotates the
/// addresses, so that clients that take the first one spread.
pub(crate) fn decide(packet: &[u8], zone: Option<&Zone>, domain: &str, shift: usize) -> Outcome {
    let query = match Message::from_vec(packet) {
        Ok(query) if query.metadata.message_type == MessageType::Query => query,
        Ok(_) => return Outcome::Ignore,
        Err(_) => return malformed(packet),
    };
    if query.metadata.op_code != OpCode::Query {
        return Outcome::Answer(status(&query, ResponseCode::NotImp));
    }
    let [question] = query.queries.as_slice() else {
        return Outcome::Answer(status(&query, ResponseCode::FormErr));
    };
    if question.query_class() != DNSClass::IN {
        return Outcome::Answer(status(&query, ResponseCode::Refused));
    }
    let name = question.name().to_lowercase().to_ascii();
    let name = name.trim_end_matches('.');
    let Some(zone) = zone else {
        let ours = name == domain || name.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'));
        return match ours {
            true => Outcome::Answer(status(&query, ResponseCode::ServFail)),
            false => Outcome::Forward(query),
        };
    };
    match zone.find(name) {
        Finding::NotOurs => Outcome::Forward(query),
        Finding::Nothing => Outcome::Answer(negative(&query, ResponseCode::NXDomain, domain)),
        Finding::Pointers(names) => {
            let records = names.iter().filter_map(|name| Some(RData::PTR(PTR(absolute(name)?)))).collect();
            Outcome::Answer(positive(&query, question, wanted(question, RecordType::PTR, records), domain))
        }
        Finding::Records(found) => {
            let mut answer = positive(&query, question, data(question, &found, shift), domain);
            if question.query_type() == RecordType::SRV {
                answer.additionals = targets(zone, &found);
            }
            Outcome::Answer(answer)
        }
    }
}

/// A header alone is enough to say that the rest is not understood.
fn malformed(packet: &[u8]) -> Outcome {
    let header = packet.first_chunk::<12>();
    match header {
        Some(header) if header[2] & 0x80 == 0 => {
            let id = u16::from_be_bytes([header[0], header[1]]);
            Outcome::Answer(Message::error_msg(id, OpCode::Query, ResponseCode::FormErr))
        }
        _ => Outcome::Ignore,
    }
}

/// An answer with nothing but a code.
pub(crate) fn status(query: &Message, code: ResponseCode) -> Message {
    let mut answer = Message::response(query.metadata.id, query.metadata.op_code);
    answer.metadata.recursion_desired = query.metadata.recursion_desired;
    answer.metadata.recursion_available = true;
    answer.metadata.response_code = code;
    answer.queries.clone_from(&query.queries);
    answer.edns = query.edns.is_some().then(|| {
        let mut edns = Edns::new();
        edns.set_max_payload(MAX_DATAGRAM);
        edns
    });
    answer
}

fn positive(query: &Message, question: &Query, records: Vec<RData>, domain: &str) -> Message {
    if records.is_empty() {
        return negative(query, ResponseCode::NoError, domain);
    }
    let mut answer = status(query, ResponseCode::NoError);
    answer.metadata.authoritative = true;
    let named = |data| Record::from_rdata(question.name().clone(), TTL, data);
    answer.answers = records.into_iter().map(named).collect();
    answer
}

/// "No such name" or "no such record", with the record that says for how long to believe it.
fn negative(query: &Message, code: ResponseCode, domain: &str) -> Message {
    let mut answer = status(query, code);
    answer.metadata.authoritative = true;
    if let (Some(zone), Some(server), Some(person)) =
        (absolute(domain), absolute(&format!("ns.dns.{domain}")), absolute(&format!("hostmaster.{domain}")))
    {
        let start = SOA::new(server, person, 1, 7200, 1800, 86400, TTL);
        answer.authorities = vec![Record::from_rdata(zone, TTL, RData::SOA(start))];
    }
    answer
}

fn absolute(name: &str) -> Option<Name> {
    let mut name = Name::from_ascii(name).ok()?;
    name.set_fqdn(true);
    Some(name)
}

fn wanted(question: &Query, kind: RecordType, records: Vec<RData>) -> Vec<RData> {
    if question.query_type() == kind || question.query_type() == RecordType::ANY {
        records
    } else {
        Vec::new()
    }
}

fn address_record(address: IpAddr) -> RData {
    match address {
        IpAddr::V4(address) => RData::A(A(address)),
        IpAddr::V6(address) => RData::AAAA(AAAA(address)),
    }
}

/// The records of the wanted type; an alias stands for all types.
fn data(question: &Query, found: &Records, shift: usize) -> Vec<RData> {
    if let Some(alias) = &found.alias {
        return absolute(alias).map(|target| RData::CNAME(CNAME(target))).into_iter().collect();
    }
    let (mut fours, mut sixes): (Vec<RData>, Vec<RData>) = found
        .addresses
        .iter()
        .map(|&address| address_record(address))
        .partition(|data| matches!(data, RData::A(_)));
    for addresses in [&mut fours, &mut sixes] {
        let places = addresses.len().max(1);
        addresses.rotate_left(shift % places);
    }
    let service =
        |(port, target): &(u16, String)| Some(RData::SRV(SRV::new(0, 100, *port, absolute(target)?)));
    let services = found.services.iter().filter_map(service).collect();
    let text = found.text.map(|text| RData::TXT(TXT::new(vec![text.to_owned()]))).into_iter().collect();
    [
        wanted(question, RecordType::A, fours),
        wanted(question, RecordType::AAAA, sixes),
        wanted(question, RecordType::SRV, services),
        wanted(question, RecordType::TXT, text),
    ]
    .concat()
}

/// The addresses of SRV targets save the client a question.
fn targets(zone: &Zone, found: &Records) -> Vec<Record> {
    let mut records = Vec::new();
    for (_, target) in &found.services {
        let (Finding::Records(of_target), Some(name)) = (zone.find(target), absolute(target)) else {
            continue;
        };
        let one = |&address| Record::from_rdata(name.clone(), TTL, address_record(address));
        records.extend(of_target.addresses.iter().map(one));
    }
    records
}

/// Encodes for UDP: what does not fit is cut, and the client asks again by TCP.
pub(crate) fn datagram(answer: &Message, query: &[u8]) -> Option<Vec<u8>> {
    let offered = Message::from_vec(query).ok().and_then(|query| Some(query.edns?.max_payload()));
    let limit = offered.unwrap_or(PLAIN_DATAGRAM).clamp(PLAIN_DATAGRAM, MAX_DATAGRAM);
    let bytes = answer.to_vec().ok()?;
    if bytes.len() <= usize::from(limit) { Some(bytes) } else { answer.truncate().to_vec().ok() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Service;
    use k8s_openapi::api::discovery::v1::EndpointSlice;
    use proptest::prelude::*;
    use serde_json::json;
    use std::sync::Arc;

    const DOMAIN: &str = "cluster.local";

    fn zone(endpoints: u8) -> Zone {
        let service: Service = serde_json::from_value(json!({
            "metadata": {"namespace": "default", "name": "db"}, "spec": {"clusterIP": "None"},
        }))
        .unwrap();
        let addresses: Vec<_> =
            (0..endpoints).map(|n| json!({"addresses": [format!("10.42.0.{n}")]})).collect();
        let slice: EndpointSlice = serde_json::from_value(json!({
            "metadata": {"namespace": "default", "labels": {"kubernetes.io/service-name": "db"}},
            "addressType": "IPv4", "endpoints": addresses, "ports": [{"name": "sql", "port": 5432}],
        }))
        .unwrap();
        Zone::new(DOMAIN, &[], &[Arc::new(service)], &[Arc::new(slice)])
    }

    fn query(name: &str, kind: RecordType) -> Vec<u8> {
        let mut message = Message::query();
        message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        message.to_vec().unwrap()
    }

    fn answer(packet: &[u8], zone: Option<&Zone>) -> Message {
        match decide(packet, zone, DOMAIN, 0) {
            Outcome::Answer(message) => message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn codes_follow_what_is_known() {
        let zone = zone(2);
        for (name, kind, code, answers) in [
            ("db.default.svc.cluster.local.", RecordType::A, ResponseCode::NoError, 2),
            ("DB.Default.SVC.cluster.LOCAL.", RecordType::A, ResponseCode::NoError, 2),
            ("db.default.svc.cluster.local.", RecordType::AAAA, ResponseCode::NoError, 0),
            ("_sql._tcp.db.default.svc.cluster.local.", RecordType::SRV, ResponseCode::NoError, 2),
            ("dns-version.cluster.local.", RecordType::TXT, ResponseCode::NoError, 1),
            ("no.default.svc.cluster.local.", RecordType::A, ResponseCode::NXDomain, 0),
        ] {
            let answer = answer(&query(name, kind), Some(&zone));
            assert_eq!(
                (answer.metadata.response_code, answer.answers.len()),
                (code, answers),
                "{name} {kind}"
            );
            assert_eq!(answer.authorities.len(), usize::from(answers == 0), "{name} {kind}");
            assert!(answer.metadata.authoritative && answer.metadata.recursion_available);
        }
    }

    #[test]
    fn each_family_is_told_of_on_its_own() {
        let service: Service =
            serde_json::from_value(json!({"metadata": {"namespace": "default", "name": "web"},
            "spec": {"clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1", "fd00::1"]}}))
            .unwrap();
        let zone = Zone::new(DOMAIN, &[], &[Arc::new(service)], &[]);
        for (kind, address) in [(RecordType::A, "10.96.0.1"), (RecordType::AAAA, "fd00::1")] {
            let answer = answer(&query("web.default.svc.cluster.local.", kind), Some(&zone));
            let told: Vec<String> = answer.answers.iter().map(|record| record.data.to_string()).collect();
            assert_eq!(told, [address], "{kind}");
        }
    }

    #[test]
    fn until_the_names_are_known_ours_fail_and_others_go_on() {
        let ours = answer(&query("db.default.svc.cluster.local.", RecordType::A), None);
        assert_eq!(ours.metadata.response_code, ResponseCode::ServFail);
        for other in ["example.com.", "mycluster.local."] {
            assert!(
                matches!(decide(&query(other, RecordType::A), None, DOMAIN, 0), Outcome::Forward(_)),
                "{other}"
            );
        }
    }

    #[test]
    fn addresses_rotate() {
        let zone = zone(3);
        let packet = query("db.default.svc.cluster.local.", RecordType::A);
        let first = |shift| match decide(&packet, Some(&zone), DOMAIN, shift) {
            Outcome::Answer(message) => message.answers[0].data.to_string(),
            other => panic!("{other:?}"),
        };
        assert_eq!(
            [first(0), first(1), first(2), first(3)],
            ["10.42.0.0", "10.42.0.1", "10.42.0.2", "10.42.0.0"]
        );
    }

    #[test]
    fn too_big_a_datagram_is_cut() {
        let zone = zone(200);
        let packet = query("db.default.svc.cluster.local.", RecordType::A);
        let whole = answer(&packet, Some(&zone));
        assert_eq!(whole.answers.len(), 200);
        let sent = datagram(&whole, &packet).unwrap();
        assert!(sent.len() <= 512);
        assert!(Message::from_vec(&sent).unwrap().metadata.truncation);
    }

    #[test]
    fn answers_and_short_packets_are_ignored() {
        let zone = zone(1);
        let mut somebodys = Message::response(7, OpCode::Query);
        somebodys.add_query(Query::query(Name::from_ascii("a.").unwrap(), RecordType::A));
        for packet in [&somebodys.to_vec().unwrap()[..], b"", b"short", &[0xff; 12]] {
            assert!(matches!(decide(packet, Some(&zone), DOMAIN, 0), Outcome::Ignore), "{packet:?}");
        }
        let broken = answer(&[1, 2, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0], Some(&zone));
        assert_eq!(broken.metadata.response_code, ResponseCode::FormErr);
        assert_eq!(broken.metadata.id, 0x0102);
    }

    proptest! {
        #[test]
        fn any_packet_is_decided(packet in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Outcome::Answer(answer) = decide(&packet, Some(&zone(1)), DOMAIN, 1) {
                prop_assert!(datagram(&answer, &packet).is_none_or(|bytes| bytes.len() <= 1232));
            }
        }
    }
}
