/** How the machine's pixels meet the display's. */

const WHOLE_TOLERANCE = 0.01;

/**
 * How to draw a picture of `width` pixels over `cssWidth` CSS pixels on a display with `ratio`
 * device pixels to each. Whole multiples stay sharp pixel by pixel; anything else is smoothed.
 */
export function rendering(width: number, cssWidth: number, ratio: number): "pixelated" | "auto" {
  const scale = (cssWidth * ratio) / width;
  const whole = Math.round(scale);
  return whole >= 1 && Math.abs(scale - whole) < WHOLE_TOLERANCE ? "pixelated" : "auto";
}
