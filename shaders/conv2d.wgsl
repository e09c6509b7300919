// conv2d: z[b, y, x] = bias + Σ_{i, ky, kx} W[:, i, ky, kx] · in[b, y·stride + ky − 1, x·stride + kx − 1, i],   y = gelu(z) = z · (1 + erf(z/√2)) / 2.
//
// 3 × 3 taps, one pixel of zeros on every side, stride 1 or 2, H' = ceil(H / stride) and W' = ceil(W / stride) pixels out. Pixels
// are rows and channels are contiguous; K is numbered as in the weight: k = i · 9 + tap, tap = ky · 3 + kx.
// Names: M = B · H' · W'; K = 9 · in.
//
// Backward.  dz = dy · gelu'(z), gelu'(z) = (1 + erf(z/√2))/2 + z · exp(−z²/2)/√(2π), then three implicit GEMMs that gather:
//   dW = Σ_m dz[m]ᵀ in[m],   db = Σ_m dz[m],
//   dx[b, v, u] = Σ_{ky, kx} W[:, :, ky, kx]ᵀ dz[b, (v + 1 − ky)/stride, (u + 1 − kx)/stride] where that is a pixel.
// With stride 2 a pixel in an even row meets only the middle row of taps and one in an odd row the outer two, and so across: rows
// of the dx GEMM are ordered by phase (even row and even column first, then even and odd, odd and even, odd and odd), so that a
// tile skips the taps that none of its rows meets.
//
// The ladder, in the order of this file (the CUDA twin has a third rung, on tensor cores):
//   rung 1: naive  one result per thread.
//   rung 2: tile   TILE × TILE results per workgroup, (TILE/4)² threads of 4 × 4 results, TILE_K deep, both operands staged as vec4.
//   beside it      what goes element by element, and the second passes, which add up parts.
//
// forward_naive     block 64, one result per thread, grid = ceil(M · out / 64): z and y
//   0  x            [B, H, W, in]      f32   read
//   1  weight       [out, in, 3, 3]    f32   read
//   2  bias         [out]              f32   read
//   3  z            [B, H', W', out]   f32   overwritten
//   4  y            [B, H', W', out]   f32   overwritten
//   5  dims         uniform
// forward_tile      block (TILE/4)², grid = ceil(M / TILE) · ceil(out / TILE): z and y
//   0  x            [B, H, W, in]      f32   read
//   1  weight       [out, in, 3, 3]    f32   read
//   2  bias         [out]              f32   read
//   3  z            [B, H', W', out]   f32   overwritten
//   4  y            [B, H', W', out]   f32   overwritten
//   5  dims         uniform
// gelu_backward     block 256, one result per thread, grid = ceil(M · out / 256): dz = dy · gelu'(z)
//   0  g_z          [B, H', W', out]   f32   read
//   1  g_dy         [B, H', W', out]   f32   read
//   2  g_dz         [B, H', W', out]   f32   overwritten
//   3  g_dims       uniform
// dweight_naive     block 64, one result per thread, grid = ceil(out · K / 64): dW
//   0  w_x          [B, H, W, in]      f32   read
//   1  w_dz         [B, H', W', out]   f32   read
//   2  w_partial    [out, in, 3, 3]    f32   accumulated (dweight itself: one part)
//   3  w_dims       uniform
// dweight_tile      block (TILE/4)², grid = parts · ceil(out / TILE) · ceil(K / TILE): parts of dW
//   0  w_x          [B, H, W, in]      f32   read
//   1  w_dz         [B, H', W', out]   f32   read
//   2  w_partial    [parts, out, K]    f32   overwritten
//   3  w_dims       uniform
// dweight_finish    block 64, one result per thread, grid = ceil(out · K / 64): dW += Σ of its parts
//   0  f_partial    [parts, out, K]    f32   read
//   1  f_dweight    [out, in, 3, 3]    f32   accumulated
//   2  f_dims       uniform
// dbias_partial     block 64, one result per thread, grid = ceil(parts · out / 64): parts of db
//   0  b_dz         [B, H', W', out]   f32   read
//   1  b_partial    [parts, out]       f32   overwritten (from element parts · out · K of the workspace)
//   2  b_dims       uniform
// dbias_finish      block 64, one result per thread, grid = ceil(out / 64): db += Σ of its parts
//   0  e_partial    [parts, out]       f32   read (from element parts · out · K of the workspace)
//   1  e_dbias      [out]              f32   accumulated
//   2  e_dims       uniform
// dx_naive          block 64, one result per thread, grid = ceil(B · H · W · in / 64): dx
//   0  x_weight     [out, in, 3, 3]    f32   read
//   1  x_dz         [B, H', W', out]   f32   read
//   2  dx           [B, H, W, in]      f32   overwritten
//   3  x_dims       uniform
// dx_tile           block (TILE/4)², grid = ceil(B · H · W / TILE) · ceil(in / TILE): dx
//   0  x_weight     [out, in, 3, 3]    f32   read
//   1  x_dz         [B, H', W', out]   f32   read
//   2  dx           [B, H, W, in]      f32   overwritten
//   3  x_dims       uniform
//
// Constants: TILE: 32, 64.
// Precision: f32 sums in a fixed order, the same bits on every run. erf is a polynomial of the file, exp as the device has it.
// Limits: every size and product < 2³¹; 1 ≤ stride ≤ 2, H' = ceil(H / stride), W' = ceil(W / stride).

struct Dims {
    images: u32,           // B
    height: u32,           // H
    width: u32,            // W
    height_out: u32,       // H'
    width_out: u32,        // W'
    channels_in: u32,      // in
    channels_out: u32,     // out
    stride: u32,           // 1 or 2
    parts: u32,            // ranges of output pixels that dW and db are summed over apart
    padding0: u32,
    padding1: u32,
    padding2: u32,
}
