//! Builds archives for tests, hostile ones included: nothing is checked, names are written as they are.

/// One entry.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    kind: u8,
    name: Vec<u8>,
    link: Vec<u8>,
    data: Vec<u8>,
    mode: u32,
    owner: (u64, u64),
    mtime: u64,
    device: (u32, u32),
    xattrs: Vec<(String, Vec<u8>)>,
    sparse: Option<(u64, Vec<(u64, u64)>)>,
}

impl Item {
    fn new(kind: u8, name: &str, link: &str, data: &str) -> Self {
        let (name, link, data) =
            (name.as_bytes().to_vec(), link.as_bytes().to_vec(), data.as_bytes().to_vec());
        let (owner, device) = ((0, 0), (0, 0));
        Self {
            kind,
            name,
            link,
            data,
            mode: 0o644,
            owner,
            mtime: 0,
            device,
            xattrs: Vec::new(),
            sparse: None,
        }
    }

    pub(crate) fn file(name: &str, data: &str) -> Self {
        Self::new(b'0', name, "", data)
    }

    pub(crate) fn dir(name: &str, mode: u32) -> Self {
        Self::new(b'5', name, "", "").mode(mode)
    }

    pub(crate) fn symlink(name: &str, target: &str) -> Self {
        Self::new(b'2', name, target, "")
    }

    pub(crate) fn hardlink(name: &str, target: &str) -> Self {
        Self::new(b'1', name, target, "")
    }

    pub(crate) fn fifo(name: &str) -> Self {
        Self::new(b'6', name, "", "")
    }

    pub(crate) fn char_device(name: &str, major: u32, minor: u32) -> Self {
        Self { device: (major, minor), ..Self::new(b'3', name, "", "") }
    }

    pub(crate) fn block_device(name: &str, major: u32, minor: u32) -> Self {
        Self { device: (major, minor), ..Self::new(b'4', name, "", "") }
    }

    /// In the old GNU format, with at most four parts.
    pub(crate) fn sparse(name: &str, size: u64, parts: &[(u64, &[u8])]) -> Self {
        let data = parts.iter().flat_map(|(_, bytes)| bytes.iter().copied()).collect();
        let map = parts.iter().map(|(offset, bytes)| (*offset, bytes.len() as u64)).collect();
        Self { data, sparse: Some((size, map)), ..Self::new(b'S', name, "", "") }
    }

    pub(crate) fn mode(self, mode: u32) -> Self {
        Self { mode, ..self }
    }

    pub(crate) fn owner(self, uid: u64, gid: u64) -> Self {
        Self { owner: (uid, gid), ..self }
    }

    pub(crate) fn mtime(self, mtime: u64) -> Self {
        Self { mtime, ..self }
    }

    pub(crate) fn xattr(mut self, name: &str, value: &[u8]) -> Self {
        self.xattrs.push((name.to_owned(), value.to_vec()));
        self
    }
}

/// Writes entries.
#[derive(Debug, Default)]
pub(crate) struct ArchiveBuilder {
    bytes: Vec<u8>,
}

impl ArchiveBuilder {
    /// A whole archive.
    pub(crate) fn of(items: &[Item]) -> Vec<u8> {
        let mut builder = Self::default();
        for item in items {
            builder.item(item);
        }
        builder.bytes.extend([0; 1024]);
        builder.bytes
    }

    /// Makes every header's checksum right again, as far as headers can still be found.
    pub(crate) fn mend_checksums(archive: &mut [u8]) {
        for block in archive.as_chunks_mut::<512>().0 {
            if &block[257..262] == b"ustar" {
                let (front, back) = (&block[..148], &block[156..]);
                let sum: u32 = front.iter().chain(b"        ").chain(back).map(|byte| u32::from(*byte)).sum();
                block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            }
        }
    }

    fn item(&mut self, item: &Item) {
        let mut records = Vec::new();
        for (name, value) in &item.xattrs {
            records.extend(record(&format!("SCHILY.xattr.{name}"), value));
        }
        if item.name.len() > 100 || item.name.contains(&0) {
            records.extend(record("path", &item.name));
        }
        if !records.is_empty() {
            self.member(&Item::new(b'x', "pax", "", ""), &records);
        }
        self.member(item, &item.data);
    }

    fn member(&mut self, item: &Item, data: &[u8]) {
        let mut header = tar::Header::new_gnu();
        {
            let gnu = header.as_gnu_mut().unwrap();
            let length = item.name.len().min(100);
            gnu.name[..length].copy_from_slice(&item.name[..length]);
            gnu.linkname[..item.link.len()].copy_from_slice(&item.link);
            gnu.typeflag = [item.kind];
            if let Some((size, map)) = &item.sparse {
                gnu.set_real_size(*size);
                for (slot, (offset, length)) in gnu.sparse.iter_mut().zip(map) {
                    slot.set_offset(*offset);
                    slot.set_length(*length);
                }
            }
        }
        header.set_size(data.len() as u64);
        header.set_mode(item.mode);
        header.set_uid(item.owner.0);
        header.set_gid(item.owner.1);
        header.set_mtime(item.mtime);
        header.set_device_major(item.device.0).unwrap();
        header.set_device_minor(item.device.1).unwrap();
        header.set_cksum();
        self.bytes.extend(header.as_bytes());
        self.bytes.extend(data);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
    }
}

/// A PAX record: its length counts its own digits.
fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let body = key.len() + value.len() + 3;
    let length = (body..).find(|length| length.to_string().len() + body == *length).unwrap();
    [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
}
