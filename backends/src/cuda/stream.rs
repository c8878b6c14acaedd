//! Where Burn computes on a card: its context, and its streams.

use std::ffi::c_int;

use burn_cubecl::cubecl::cuda::CudaRuntime;
use burn_cubecl::cubecl::device_handle::DeviceHandle;
use burn_cubecl::cubecl::prelude::Client;
use cubecl_environment::stream::StreamId;
use cubecl_runtime::runtime::Runtime;
use cubecl_server::command::DeviceStream;
use cubecl_server::stream::WriteScoped;
use cudarc::driver::sys::{CUcontext, CUstream};
use cudarc::driver::{DriverError, result};

/// Who computes on cards.
pub(super) type Server = <CudaRuntime as Runtime>::Server;

/// The stream that this thread's work goes into, once there has been any.
pub(super) fn stream(client: &Client) -> Result<CUstream, String> {
    let (device, id) = (client.service_id().device, StreamId::current());
    let found = DeviceHandle::<Server>::new(device)
        .submit_blocking(move |server| server.write_streams().try_stream_mut(&id).map(|stream| stream.signal() as usize));
    let found = found.map_err(|error| format!("{error:?}"))?;
    found.map(|stream| stream as CUstream).ok_or_else(|| "Burn has no stream for this thread".into())
}

/// The context of the n-th card, current from now on and never released.
pub(super) fn context(index: usize) -> Result<CUcontext, String> {
    result::init().map_err(text)?;
    // SAFETY: the device comes from the driver's own `get`; the context is the one that Burn computes in.
    #[allow(unsafe_code)]
    unsafe {
        let device = result::device::get(index as c_int).map_err(text)?;
        let context = result::primary_ctx::retain(device).map_err(text)?;
        result::ctx::set_current(context).map_err(text)?;
        Ok(context)
    }
}

/// What the driver says.
pub(super) fn text(error: DriverError) -> String {
    format!("NVIDIA's driver: {error}")
}
