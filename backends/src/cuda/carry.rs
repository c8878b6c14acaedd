//! What ordinary memory holds, on its way to a card that computes meanwhile.

use std::any::Any;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::{Tensor, TensorData};
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{CubeBackend, CubeDevice};
use cudarc::driver::result;
use cudarc::driver::sys::{CUcontext, CUevent, CUevent_flags, CUevent_wait_flags, CUstream};
use hbat::compute::Carrier;

use super::stream::{Server, context, stream, text};

/// On a stream of its own beside the one that computes.
pub(crate) const CARRIER: Carrier = Carrier { name: "a stream of its own", departed, arrived };

/// A tensor that will hold `data` once it has [`arrived`], where `like` lies. Until then nothing may read it.
fn departed(data: TensorData, like: Tensor<2>) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::departed(like.into_dispatch(), Load(Arc::new(Mutex::new(data)))))
}

/// The tensor, for whatever is queued from now on.
fn arrived(tensor: Tensor<2>) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::arrived(tensor.into_dispatch()))
}

/// Seconds that copies to the n-th card have taken so far, as far as they are known to be done.
pub(crate) fn carried(index: usize) -> f64 {
    let mut lanes = LANES.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(lane) = lanes.get_or_insert_default().get_mut(&index) else { return 0.0 };
    lane.collect();
    lane.seconds
}

/// What is carried.
#[derive(Debug, Clone)]
pub(crate) struct Load(Arc<Mutex<TensorData>>);

impl Load {
    fn spec(&self) -> TensorSpec {
        let data = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        TensorSpec::new(data.shape().clone(), data.dtype())
    }
}

#[backend_extension(Cube, Fusion)]
pub(crate) trait Carried: Backend {
    /// A new tensor, and a copy to it that begins when all that was queued before is done.
    #[fusion(meta = |_like, load| load.spec())]
    fn departed(like: FloatTensor<Self>, load: Load) -> FloatTensor<Self>;

    /// What is queued from now on waits for that copy.
    #[fusion(meta = |tensor| tensor.clone())]
    fn arrived(tensor: FloatTensor<Self>) -> FloatTensor<Self>;
}

impl Carried for CubeBackend {
    fn departed(like: CubeTensor, load: Load) -> CubeTensor {
        let spec = load.spec();
        let tensor = empty_device_contiguous_dtype(like.client.clone(), like.device.clone(), spec.shape, spec.dtype);
        on_lane(&tensor, |lane, address, held, burn| lane.depart(address, (load, held), burn));
        tensor
    }

    fn arrived(tensor: CubeTensor) -> CubeTensor {
        on_lane(&tensor, |lane, address, _, burn| lane.arrive(address, burn));
        tensor
    }
}

/// What keeps a tensor's memory where it is.
type Held = Box<dyn Any + Send>;

static LANES: Mutex<Option<HashMap<usize, Lane>>> = Mutex::new(None);

/// Does something about a tensor in its card's lane, in the order of this thread's work.
///
/// # Panics
/// With what the driver says.
fn on_lane(tensor: &CubeTensor, work: impl FnOnce(&mut Lane, u64, Held, CUstream) -> Result<(), String> + Send) {
    let CubeDevice::Cuda(device) = &tensor.device else { panic!("only cards have lanes") };
    let (index, client) = (device.index, &tensor.client);
    let done = client.exclusive(|| {
        let held = client.get_resource::<Server>(tensor.handle.clone()).map_err(|error| error.to_string())?;
        let (address, burn) = (held.resource().ptr, stream(client)?);
        let mut lanes = LANES.lock().unwrap_or_else(PoisonError::into_inner);
        let lanes = lanes.get_or_insert_default();
        if let std::collections::hash_map::Entry::Vacant(free) = lanes.entry(index) {
            free.insert(Lane::new(index)?);
        }
        work(lanes.get_mut(&index).expect("it was just made"), address, Box::new(held), burn)
    });
    done.map_err(|error| error.to_string()).flatten().unwrap_or_else(|error| panic!("{error}"));
}

/// A stream for copies, beside those that Burn computes in.
struct Lane {
    context: CUcontext,
    stream: CUstream,
    /// Recorded in Burn's stream before a copy.
    before: CUevent,
    /// Copies by where they go.
    under_way: HashMap<u64, Carriage>,
    /// What copies that Burn's stream waits for read, until they are done. Of what they write nothing is held any longer: whoever gets that
    /// memory next is queued behind them. A host that is many layers ahead of its card would otherwise hold as many anchors there.
    awaited: VecDeque<(Times, Load)>,
    unused: Vec<Times>,
    /// How long copies that are done took.
    seconds: f64,
}

/// Recorded before and after a copy, in its own stream.
#[derive(Clone, Copy)]
struct Times {
    began: CUevent,
    done: CUevent,
}

struct Carriage {
    times: Times,
    from: Load,
    _to: Held,
}

// SAFETY: CUDA's handles may be used from any thread, and `&mut` lets one at a time.
#[allow(unsafe_code)]
unsafe impl Send for Lane {}

impl Lane {
    fn new(index: usize) -> Result<Self, String> {
        let context = context(index)?;
        let stream = result::stream::create(result::stream::StreamKind::NonBlocking).map_err(text)?;
        let before = event(CUevent_flags::CU_EVENT_DISABLE_TIMING)?;
        let (under_way, awaited, unused) = (HashMap::new(), VecDeque::new(), Vec::new());
        Ok(Self { context, stream, before, under_way, awaited, unused, seconds: 0.0 })
    }

    fn depart(&mut self, address: u64, (from, to): (Load, Held), burn: CUstream) -> Result<(), String> {
        self.collect();
        let times = self.unused.pop().map_or_else(Times::new, Ok)?;
        {
            let data = from.0.lock().unwrap_or_else(PoisonError::into_inner);
            let bytes: &[u8] = data.bytes();
            // SAFETY: streams and events are this context's; the address has room for what its tensor was made of, for the tensor was made
            // with this shape and type; what is read is kept until it is done, what is written until Burn's stream waits for that.
            #[allow(unsafe_code)]
            unsafe {
                result::event::record(self.before, burn).map_err(text)?;
                wait(self.stream, self.before)?;
                result::event::record(times.began, self.stream).map_err(text)?;
                result::memcpy_htod_async(address, bytes, self.stream).map_err(text)?;
                result::event::record(times.done, self.stream).map_err(text)?;
            }
        }
        self.under_way.insert(address, Carriage { times, from, _to: to });
        Ok(())
    }

    fn arrive(&mut self, address: u64, burn: CUstream) -> Result<(), String> {
        let copy = self.under_way.remove(&address).ok_or("nothing is on its way there")?;
        // SAFETY: the context is never released, and stream and event are its own.
        #[allow(unsafe_code)]
        unsafe {
            result::ctx::set_current(self.context).map_err(text)?;
            wait(burn, copy.times.done)?;
        }
        self.awaited.push_back((copy.times, copy.from));
        Ok(())
    }

    /// Lets go of copies that are done, and adds up how long they took; they end in their order. Leaves this context current.
    fn collect(&mut self) {
        // SAFETY: the context is never released.
        #[allow(unsafe_code)]
        let current = unsafe { result::ctx::set_current(self.context) };
        while let Some((times, _)) = self.awaited.front().filter(|(times, _)| current.is_ok() && times.are_known()) {
            self.seconds += times.seconds();
            self.unused.extend(self.awaited.pop_front().map(|(times, _)| times));
        }
    }
}

impl Times {
    fn new() -> Result<Self, String> {
        Ok(Self { began: event(CUevent_flags::CU_EVENT_DEFAULT)?, done: event(CUevent_flags::CU_EVENT_DEFAULT)? })
    }

    fn are_known(&self) -> bool {
        // SAFETY: the event is of the context that is current.
        #[allow(unsafe_code)]
        unsafe { result::event::query(self.done) }.is_ok()
    }

    /// Between both, once they are known.
    fn seconds(&self) -> f64 {
        // SAFETY: both events are of the context that is current, and were recorded.
        #[allow(unsafe_code)]
        unsafe { result::event::elapsed(self.began, self.done) }.map_or(0.0, |milliseconds| f64::from(milliseconds) / 1000.0)
    }
}

#[allow(unsafe_code)]
unsafe fn wait(stream: CUstream, event: CUevent) -> Result<(), String> {
    // SAFETY: the caller's.
    unsafe { result::stream::wait_event(stream, event, CUevent_wait_flags::CU_EVENT_WAIT_DEFAULT) }.map_err(text)
}

fn event(flags: CUevent_flags) -> Result<CUevent, String> {
    result::event::create(flags).map_err(text)
}
