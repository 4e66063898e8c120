"use strict";
/* Images of 28 x 28 pixels: drawing them, and the scores ssim and mse of lab/metrics.py. */

const SIZE = 28;
const PIXELS = SIZE * SIZE;

/* Draw 784 pixels in [0, 1] on a canvas of 28 x 28. */
function draw(canvas, pixels) {
  const context = canvas.getContext("2d");
  const image = context.createImageData(SIZE, SIZE);
  const bytes = toBytes(pixels);
  for (let i = 0; i < PIXELS; i++) {
    image.data.fill(bytes[i], 4 * i, 4 * i + 3);
    image.data[4 * i + 3] = 255;
  }
  context.putImageData(image, 0, 0);
}

/* Return round(255 clip(x, 0, 1)), as images are scored. */
function toBytes(pixels) {
  return Uint8Array.from(pixels, (x) => Math.round(255 * Math.min(1, Math.max(0, x))));
}

/* Return the mean squared error of two images of bytes, divided by 255 first. */
function meanSquaredError(a, b) {
  let sum = 0;
  for (let i = 0; i < PIXELS; i++) sum += (a[i] - b[i]) ** 2;
  return sum / PIXELS / 255 ** 2;
}

/* Return the structural similarity of two images of bytes: equation 13 of Wang et al. 2004, with
   7 x 7 uniform windows and sample covariance, as scikit-image computes it. */
function structuralSimilarity(a, b) {
  const side = 7, n = side * side, windows = SIZE - side + 1;
  const c1 = (0.01 * 255) ** 2, c2 = (0.03 * 255) ** 2;
  let sum = 0;
  for (let top = 0; top < windows; top++) {
    for (let left = 0; left < windows; left++) {
      let sumA = 0, sumB = 0, squaresA = 0, squaresB = 0, products = 0;
      for (let y = top; y < top + side; y++) {
        for (let i = y * SIZE + left; i < y * SIZE + left + side; i++) {
          sumA += a[i];
          sumB += b[i];
          squaresA += a[i] * a[i];
          squaresB += b[i] * b[i];
          products += a[i] * b[i];
        }
      }
      const meanA = sumA / n, meanB = sumB / n;
      const varianceA = (squaresA - n * meanA * meanA) / (n - 1);
      const varianceB = (squaresB - n * meanB * meanB) / (n - 1);
      const covariance = (products - n * meanA * meanB) / (n - 1);
      sum += ((2 * meanA * meanB + c1) * (2 * covariance + c2))
        / ((meanA * meanA + meanB * meanB + c1) * (varianceA + varianceB + c2));
    }
  }
  return sum / windows ** 2;
}
