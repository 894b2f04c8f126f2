//! Peers that break the rules cost their own association, and little memory.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::*;
use crate::support::studies::Slice;

const MR: &str = "1.2.840.10008.5.1.4.1.1.4";
const EXPLICIT: &str = "1.2.840.10008.1.2.1";

/// A requestor written down byte by byte, which can lie.
struct Liar(TcpStream);

fn item(kind: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind, 0];
    bytes.extend((content.len() as u16).to_be_bytes());
    bytes.extend(content);
    bytes
}

fn pdu(kind: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind, 0];
    bytes.extend((content.len() as u32).to_be_bytes());
    bytes.extend(content);
    bytes
}

/// Command elements of Implicit VR Little Endian.
fn command(elements: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (element, value) in elements {
        bytes.extend([0, 0]);
        bytes.extend(element.to_le_bytes());
        bytes.extend((value.len() as u32).to_le_bytes());
        bytes.extend(value);
    }
    bytes
}

fn padded(uid: &str) -> Vec<u8> {
    let mut bytes = uid.as_bytes().to_vec();
    if bytes.len() % 2 == 1 {
        bytes.push(0);
    }
    bytes
}

impl Liar {
    fn connect(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Self(stream)
    }

    fn associate(port: u16) -> Self {
        let mut liar = Self::connect(port);
        let mut request = vec![0, 1, 0, 0];
        request.extend(format!("{:16}{:16}", "SEER", "SCANNER").bytes());
        request.extend([0; 32]);
        request.extend(item(0x10, b"1.2.840.10008.3.1.1.1"));
        let mut context = vec![1, 0, 0, 0];
        context.extend(item(0x30, MR.as_bytes()));
        context.extend(item(0x40, EXPLICIT.as_bytes()));
        request.extend(item(0x20, &context));
        request.extend(item(0x50, &item(0x51, &16384_u32.to_be_bytes())));
        liar.send(&pdu(1, &request));
        assert_eq!(liar.answer().0, 2, "the association is accepted");
        liar
    }

    fn send(&mut self, bytes: &[u8]) {
        // It may have hung up on us already, which is what some tests want to see.
        let _ = self.0.write_all(bytes);
    }

    fn value(&mut self, flags: u8, data: &[u8]) {
        let mut value = ((data.len() + 2) as u32).to_be_bytes().to_vec();
        value.extend([1, flags]);
        value.extend(data);
        self.send(&pdu(4, &value));
    }

    /// Type and content of the next PDU; type 0 when it hung up.
    fn answer(&mut self) -> (u8, Vec<u8>) {
        let mut head = [0; 6];
        if self.0.read_exact(&mut head).is_err() {
            return (0, Vec::new());
        }
        let mut content = vec![0; u32::from_be_bytes(head[2..].try_into().unwrap()) as usize];
        self.0.read_exact(&mut content).unwrap();
        (head[0], content)
    }

    /// Sends a C-STORE request and gives the status of the response.
    fn store(&mut self, sop_instance: &str, data_set: &[u8]) -> u16 {
        let request = command(&[
            (0x0002, padded(MR)),
            (0x0100, 1_u16.to_le_bytes().to_vec()),
            (0x0110, 7_u16.to_le_bytes().to_vec()),
            (0x0700, vec![0, 0]),
            (0x0800, vec![0, 0]),
            (0x1000, padded(sop_instance)),
        ]);
        self.value(3, &request);
        for (at, chunk) in data_set.chunks(1000).enumerate() {
            let last = (at + 1) * 1000 >= data_set.len();
            self.value(if last { 2 } else { 0 }, chunk);
        }
        let (kind, content) = self.answer();
        assert_eq!(kind, 4, "a response");
        let status = content.windows(4).position(|w| w == [0, 0, 0, 9]).expect("status");
        u16::from_le_bytes(content[status + 8..status + 10].try_into().unwrap())
    }
}

fn data_set(slice: &Slice) -> Vec<u8> {
    let bytes = slice.bytes();
    let length = u32::from_le_bytes(bytes[140..144].try_into().unwrap());
    bytes[144 + length as usize..].to_vec()
}

#[tokio::test]
async fn each_bad_instance_gets_its_own_status_and_the_rest_is_kept() {
    let server = server(|config| {
        config.pacs.dimse = vec![dimse("scanner", "SCANNER", 104)];
        config.dicom.instance_size_bytes_max = 100_000;
    })
    .await;
    let to = port(&server);
    let statuses = blocking(move || {
        let mut liar = Liar::associate(to);
        let (good, other) = (Slice::new(710, 1), Slice::new(710, 2));
        let mut changed = data_set(&good);
        let end = changed.len() - 1;
        changed[end] ^= 1;
        vec![
            ("good", liar.store(&good.sop_instance(), &data_set(&good)), 0x0000),
            ("again", liar.store(&good.sop_instance(), &data_set(&good)), 0x0000),
            ("changed", liar.store(&good.sop_instance(), &changed), 0x0111),
            ("not the one announced", liar.store("1.2.3", &data_set(&other)), 0xA900),
            ("no DICOM", liar.store(&other.sop_instance(), &[0xff; 5000]), 0xC000),
            ("cut", liar.store(&other.sop_instance(), &data_set(&other)[..300]), 0xC000),
            ("malformed UID", liar.store("1..2", &data_set(&other)), 0x0120),
            ("too large", liar.store(&other.sop_instance(), &vec![0; 200_000]), 0xA700),
            ("other", liar.store(&other.sop_instance(), &data_set(&other)), 0x0000),
        ]
    })
    .await;
    for (what, found, expected) in statuses {
        assert_eq!(found, expected, "{what}: {found:04X} is not {expected:04X}");
    }
    assert_eq!(count(&server, &Slice::new(710, 1).study).await, 2);
}

#[tokio::test]
async fn broken_protocol_ends_one_association_only() {
    let server = server(|config| {
        config.pacs.dimse = vec![dimse("scanner", "SCANNER", 104)];
        config.pacs.idle_timeout_seconds = 1;
    })
    .await;
    let to = port(&server);
    blocking(move || {
        let kept = Liar::associate(to);
        // What is no DICOM at all, and what promises four gigabytes.
        for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[1, 0, 0xff, 0xff, 0xff, 0xff, 0, 1]] {
            let mut liar = Liar::connect(to);
            liar.send(bytes);
            assert!(matches!(liar.answer().0, 0 | 7), "refused");
        }
        let broken: [&[u8]; 5] = [
            // A PDU larger than we said we take, one of unknown type, a PDV longer than its PDU,
            &[4, 0, 0x7f, 0xff, 0xff, 0xff],
            &[9, 0, 0, 0, 0, 0],
            &[4, 0, 0, 0, 0, 6, 0xff, 0xff, 0xff, 0xff, 1, 3],
            // a command in a context that was never accepted, and data without a command.
            &[4, 0, 0, 0, 0, 18, 0, 0, 0, 14, 99, 3, 0, 0, 0, 1, 2, 0, 0, 0, 0x30, 0, 0, 0],
            &[4, 0, 0, 0, 0, 7, 0, 0, 0, 3, 1, 2, 0],
        ];
        for bytes in broken {
            let mut liar = Liar::associate(to);
            liar.send(bytes);
            assert!(matches!(liar.answer().0, 0 | 7), "{bytes:?} is answered by an abort");
        }
        let mut endless = Liar::associate(to);
        for _ in 0..100 {
            endless.value(1, &[0; 1000]);
        }
        assert!(matches!(endless.answer().0, 0 | 7), "a command set without end");
        // One byte now and then does not keep an association open.
        let mut slow = Liar::connect(to);
        let start = std::time::Instant::now();
        while start.elapsed() < Duration::from_millis(1500) {
            slow.send(&[1]);
            std::thread::sleep(Duration::from_millis(100));
        }
        assert!(matches!(slow.answer().0, 0 | 7), "too slow");
        drop(kept.0.shutdown(std::net::Shutdown::Both));
        let mut liar = Liar::associate(to);
        let slice = Slice::new(711, 1);
        assert_eq!(liar.store(&slice.sop_instance(), &data_set(&slice)), 0);
    })
    .await;
}

#[tokio::test]
async fn one_association_too_many_is_refused_for_now() {
    let server = server(|config| {
        config.pacs.dimse = vec![dimse("scanner", "SCANNER", 104)];
        config.pacs.association_count_max = 1;
    })
    .await;
    let to = port(&server);
    blocking(move || {
        let first = Liar::associate(to);
        let mut second = Liar::connect(to);
        let mut request = vec![0, 1, 0, 0];
        request.extend(format!("{:16}{:16}", "SEER", "SCANNER").bytes());
        request.extend([0; 32]);
        request.extend(item(0x10, b"1.2.840.10008.3.1.1.1"));
        second.send(&pdu(1, &request));
        let (kind, content) = second.answer();
        // Rejected transient, by the provider, local limit exceeded (PS3.8 Table 9-21).
        assert_eq!((kind, content), (3, vec![0, 2, 3, 2]));
        drop((first, second));
        std::thread::sleep(Duration::from_millis(200));
        Liar::associate(to);
    })
    .await;
}
