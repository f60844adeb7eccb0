//! Memory mappings of the prover: the region a worker fills, and the page it reports its progress in.

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap, mmap_anonymous, munmap};

/// Anonymous memory of a fixed length, zero until written, never in huge pages.
#[derive(Debug)]
pub struct Region {
    start: NonNull<u8>,
    length: NonZeroUsize,
}

impl Region {
    /// Maps `length` private bytes; none of them is charged before it is written.
    pub fn new(length: usize) -> io::Result<Self> {
        Self::map(length, MapFlags::MAP_PRIVATE)
    }

    /// Maps `length` bytes of shared memory, which the kernel accounts as tmpfs.
    pub fn shared(length: usize) -> io::Result<Self> {
        Self::map(length, MapFlags::MAP_SHARED)
    }

    fn map(length: usize, sharing: MapFlags) -> io::Result<Self> {
        let length = NonZeroUsize::new(length).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        let flags = sharing | MapFlags::MAP_NORESERVE;
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of this program.
        let start =
            unsafe { mmap_anonymous(None, length, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, flags)? };
        // SAFETY: the advice covers exactly the mapping made above; it changes no contents. A kernel without
        // huge pages answers EINVAL, and then there is nothing to switch off.
        let _ = unsafe { madvise(start, length.get(), MmapAdvise::MADV_NOHUGEPAGE) };
        // SAFETY: as above. A child of this process would keep shared memory from being freed.
        unsafe { madvise(start, length.get(), MmapAdvise::MADV_DONTFORK)? };
        Ok(Self { start: start.cast(), length })
    }

    /// Has the kernel keep each page out of swap from the moment it is written (mlock2(2), Linux 4.4). The whole
    /// length counts against RLIMIT_MEMLOCK, unless the caller has CAP_IPC_LOCK.
    pub fn lock_on_fault(&self) -> io::Result<()> {
        // SAFETY: the range is exactly the mapping of this value; locking changes no contents.
        let result = unsafe {
            nix::libc::mlock2(self.start.as_ptr().cast(), self.length.get(), nix::libc::MLOCK_ONFAULT)
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// The memory itself. Pages nobody wrote read as zero.
    pub fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: the mapping is `length` bytes of readable, writable, initialised (zero) memory that only this
        // value knows, and `&mut self` makes this the only reference to it.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.length.get()) }
    }

    /// Has the kernel make the pages of `from..to` present in one call, as if each had been written
    /// (MADV_POPULATE_WRITE, Linux 5.14). Both ends must be multiples of the page size.
    pub fn populate(&mut self, from: usize, to: usize) -> io::Result<()> {
        if from > to || to > self.length.get() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        // SAFETY: `from..to` lies inside the mapping (checked above), so the pointer stays in its allocation.
        let at = unsafe { self.start.as_ptr().add(from) };
        // SAFETY: as above; the advice only makes pages present and keeps their contents.
        let result = unsafe { nix::libc::madvise(at.cast(), to - from, nix::libc::MADV_POPULATE_WRITE) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `new` with this length, and no reference outlives `self`.
        let _ = unsafe { munmap(self.start.cast(), self.length.get()) };
    }
}

/// Numbers in one page of a shared file, seen by both sides of a fork at once.
#[derive(Debug)]
pub struct SharedPage {
    cells: NonNull<[AtomicU64; Self::CELLS]>,
}

impl SharedPage {
    /// How many numbers fit.
    pub const CELLS: usize = 512;
    const BYTES: NonZeroUsize = match NonZeroUsize::new(Self::CELLS * 8) {
        Some(bytes) => bytes,
        None => unreachable!(),
    };

    /// Maps the first page of `file`, which must be at least [`Self::CELLS`] × 8 bytes long.
    pub fn map(file: impl AsFd) -> io::Result<Self> {
        let length = nix::sys::stat::fstat(file.as_fd())?.st_size;
        if u64::try_from(length).is_ok_and(|n| n < Self::BYTES.get() as u64) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of this program.
        let start = unsafe { mmap(None, Self::BYTES, access, MapFlags::MAP_SHARED, file, 0)? };
        Ok(Self { cells: start.cast() })
    }

    /// The numbers.
    pub fn cells(&self) -> &[AtomicU64; Self::CELLS] {
        // SAFETY: the mapping is page-aligned, as long as the array, lives as long as `self`, and is only ever
        // read and written as atomics, by this process and the other.
        unsafe { self.cells.as_ref() }
    }
}

impl Drop for SharedPage {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `map` with this length, and no reference outlives `self`.
        let _ = unsafe { munmap(self.cells.cast(), Self::BYTES.get()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering;

    #[test]
    fn a_region_is_zero_until_written() {
        let mut region = Region::new(8192).unwrap();
        assert!(region.bytes().iter().all(|b| *b == 0));
        region.populate(0, 4096).unwrap();
        region.bytes()[4096..].fill(7);
        assert_eq!(region.bytes()[8191], 7);
        assert!(region.populate(0, 12_288).is_err());
        assert!(Region::new(0).is_err());
    }

    #[test]
    fn a_locked_region_is_not_charged_before_it_is_written() {
        let locked = || {
            let status = std::fs::read_to_string("/proc/self/status").unwrap();
            let line = status.lines().find(|line| line.starts_with("VmLck:")).unwrap().to_owned();
            line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
        };
        let mut region = Region::new(16 * 4096).unwrap();
        region.lock_on_fault().unwrap();
        assert!(locked() >= 64, "the address range counts");
        region.populate(0, 4096).unwrap();
        assert_eq!(region.bytes()[0], 0);
    }

    #[test]
    fn a_shared_region_is_written_like_any_other() {
        let mut region = Region::shared(8192).unwrap();
        region.populate(0, 8192).unwrap();
        region.bytes()[8191] = 9;
        assert_eq!(region.bytes()[8191], 9);
    }

    #[test]
    fn a_shared_page_is_seen_through_both_mappings() {
        let file = tempfile::tempfile().unwrap();
        assert!(SharedPage::map(&file).is_err(), "an empty file would fault");
        file.set_len(4096).unwrap();
        let (one, two) = (SharedPage::map(&file).unwrap(), SharedPage::map(&file).unwrap());
        one.cells()[3].store(9, Ordering::Release);
        assert_eq!(two.cells()[3].load(Ordering::Acquire), 9);
    }
}
