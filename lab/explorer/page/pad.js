"use strict";
/* A canvas of 28 x 28 to draw a digit on, with mouse, finger, pen or keyboard. */

const BRUSH = 1.5; // pixels: strokes about as wide as MNIST's

/* Make a canvas a drawing pad; onChange(pixels) is called after each stroke and each move. */
function makePad(canvas, onChange) {
  let pixels = new Float32Array(PIXELS);
  let last = null; // where the pen was
  let cursor = null; // of the keyboard: {x, y, down}

  const paint = () => {
    draw(canvas, pixels);
    if (!cursor) return;
    const context = canvas.getContext("2d");
    context.fillStyle = cursor.down ? "#ff5a36" : "#39a0ff";
    context.fillRect(cursor.x, cursor.y, 1, 1);
  };
  const changed = () => {
    paint();
    onChange(pixels);
  };
  const stroke = (from, to) => {
    const steps = Math.max(1, Math.ceil(2 * Math.hypot(to.x - from.x, to.y - from.y)));
    for (let step = 0; step <= steps; step++) {
      dab(pixels, from.x + (to.x - from.x) * step / steps, from.y + (to.y - from.y) * step / steps);
    }
  };
  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return {
      x: (event.clientX - box.left) / box.width * SIZE,
      y: (event.clientY - box.top) / box.height * SIZE,
    };
  };

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button > 0) return;
    canvas.setPointerCapture(event.pointerId);
    cursor = null;
    last = place(event);
    stroke(last, last);
    changed();
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!last) return;
    const moves = event.getCoalescedEvents ? event.getCoalescedEvents() : [];
    for (const move of moves.length ? moves : [event]) {
      const next = place(move);
      stroke(last, next);
      last = next;
    }
    changed();
  });
  for (const name of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(name, () => { last = null; });
  }

  canvas.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (event.key === "Delete" || event.key === "Backspace") {
      set(new Float32Array(PIXELS));
    } else if (event.key === " ") {
      cursor ??= { x: SIZE / 2, y: SIZE / 4, down: false };
      cursor.down = !cursor.down;
    } else if (event.key in steps) {
      cursor ??= { x: SIZE / 2, y: SIZE / 4, down: false };
      const [x, y] = steps[event.key];
      cursor.x = Math.min(SIZE - 1, Math.max(0, cursor.x + x));
      cursor.y = Math.min(SIZE - 1, Math.max(0, cursor.y + y));
    } else return;
    event.preventDefault();
    if (cursor && cursor.down) dab(pixels, cursor.x + 0.5, cursor.y + 0.5);
    changed();
  });
  canvas.addEventListener("blur", () => {
    cursor = null;
    paint();
  });

  const set = (next) => {
    pixels = Float32Array.from(next);
    changed();
  };
  return { set, centre: () => set(centred(pixels)), pixels: () => pixels };
}

/* Put a soft dot around (x, y), in pixels from the top left corner. */
function dab(pixels, x, y) {
  for (let down = 0; down < SIZE; down++) {
    for (let across = 0; across < SIZE; across++) {
      const distance = Math.hypot(across + 0.5 - x, down + 0.5 - y);
      const ink = Math.min(1, Math.max(0, BRUSH + 0.5 - distance));
      const i = down * SIZE + across;
      pixels[i] = Math.max(pixels[i], ink);
    }
  }
}

/* Return the drawing moved so that its centre of mass is in the middle, as MNIST's digits are. */
function centred(pixels) {
  let mass = 0, sumX = 0, sumY = 0;
  pixels.forEach((ink, i) => {
    mass += ink;
    sumX += ink * (i % SIZE);
    sumY += ink * Math.floor(i / SIZE);
  });
  const moved = new Float32Array(PIXELS);
  if (mass === 0) return moved;
  const right = Math.round((SIZE - 1) / 2 - sumX / mass);
  const down = Math.round((SIZE - 1) / 2 - sumY / mass);
  pixels.forEach((ink, i) => {
    const x = i % SIZE + right, y = Math.floor(i / SIZE) + down;
    if (x >= 0 && x < SIZE && y >= 0 && y < SIZE) moved[y * SIZE + x] = ink;
  });
  return moved;
}
