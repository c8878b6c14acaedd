//! The streams that Burn computes in.

use burn_cubecl::cubecl::cuda::CudaRuntime;
use burn_cubecl::cubecl::device_handle::DeviceHandle;
use burn_cubecl::cubecl::prelude::Client;
use cubecl_environment::stream::StreamId;
use cubecl_runtime::runtime::Runtime;
use cubecl_server::command::DeviceStream;
use cubecl_server::stream::WriteScoped;
use cudarc::driver::sys::CUstream;

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
