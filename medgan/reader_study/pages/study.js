// The page of one reader. What is shown and when is decided by the server; this draws images, takes answers and
// keeps the time. An answer leaves the page only when the server has said that it is stored.
"use strict";

const body = document.body;
const find = selector => document.querySelector(selector);
const form = find("form.questions");
const canvases = [...document.querySelectorAll("canvas")];
const questions = [...document.querySelectorAll("[data-question]")];
const DISPLAY = { width: 255, level: 127.5, zoom: 1, x: 0, y: 0, inverted: false };

let state = null;      // as the server sees it
let stage = "";        // what is in sight
let open = null;       // the case that is on: kind, position, submission
let told = false;      // whether the answer of a training case is in sight
let busy = false;       // whether the server is asked for something
let images = [];       // pixels of the images that are on
let display = { ...DISPLAY };
let dragPans = false;

// ------------------------------------------------------------------------------------------ server

async function ask(address, values) {
  const options = values === undefined ? {} : {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ ...values, reader: body.dataset.reader }),
  };
  let response;
  try {
    response = await fetch(address, { ...options, cache: "no-store", credentials: "same-origin" });
  } catch {
    throw new Error("The server cannot be reached. Your answer is still here: try again in a moment.");
  }
  if (!response.ok) {
    const found = await response.json().catch(() => ({}));
    throw new Error(found.error || `The server refused this (${response.status}). Open your link again.`);
  }
  return response;
}

function random() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map(value => value.toString(16).padStart(2, "0")).join("");
}

function fail(error) {
  const place = find("#error");
  place.textContent = error.message;
  place.hidden = false;
  if (stage === "") { show("case"); }
}

// ------------------------------------------------------------------------------------------- stages

function show(name) {
  stage = name;
  for (const part of document.querySelectorAll("[data-stage]")) { part.hidden = part.dataset.stage !== name; }
  find("#pause").hidden = name !== "case";
  if (name === "case") { requestAnimationFrame(draw); }
}

function tell() {
  const inTraining = open && open.kind === "training";
  const total = inTraining ? state.training : state.total;
  const done = inTraining ? state.trained : state.answered;
  const shown = state.stage === "done" && !open ? total : Math.min(total, open ? open.position + 1 : done);
  find("#place").textContent = state.stage === "consent" ? "" : `${inTraining ? "Training" : "Case"} ${shown} of ${total}`;
  const bar = find(".bar");
  bar.setAttribute("aria-valuemax", total);
  bar.setAttribute("aria-valuenow", done);
  bar.firstElementChild.style.width = `${100 * done / Math.max(1, total)}%`;
}

async function proceed(rested) {
  if (state.stage === "consent") { open = null; tell(); show("consent"); return; }
  if (state.stage === "done") { open = null; tell(); show("done"); return; }
  if (state.stage === "cases" && state.training && !state.answered && !rested) { open = null; tell(); show("interlude"); return; }
  await present(state.stage === "training" ? "training" : "case",
    state.stage === "training" ? state.trained : state.answered);
}

async function present(kind, position) {
  const count = Number(body.dataset.images);
  const loaded = await Promise.all([...Array(count).keys()].map(async place => {
    const response = await ask(`/${kind}/${position}/image/${place}`);
    return pixelsOf(await response.blob());
  }));
  images = loaded;
  open = { kind, position, submission: random() };
  told = false;
  form.reset();
  for (const input of form.elements) { if (input.type === "radio" || input.type === "textarea") { input.disabled = false; } }
  find("#error").hidden = true;
  find("#feedback").hidden = true;
  find("#back").hidden = !(kind === "case" && state.answered > 0 && position === state.answered);
  display = { ...DISPLAY };
  activate(0);
  changed();
  tell();
  show("case");
  if (document.activeElement instanceof HTMLElement) { document.activeElement.blur(); }
  clock.restart();
}

// -------------------------------------------------------------------------------------------- time

// Counts while the case can be seen, and nobody has paused.
const clock = {
  spent: 0, since: null,
  restart() { this.spent = 0; this.since = document.hidden ? null : performance.now(); },
  stop() { if (this.since !== null) { this.spent += performance.now() - this.since; this.since = null; } },
  go() { if (this.since === null && stage === "case" && !document.hidden) { this.since = performance.now(); } },
  get seconds() { return (this.spent + (this.since === null ? 0 : performance.now() - this.since)) / 1000; },
};
document.addEventListener("visibilitychange", () => document.hidden ? clock.stop() : clock.go());

async function pause(paused) {
  if (paused) { clock.stop(); show("paused"); find("#continue").focus(); } else { show("case"); clock.go(); }
  try { await ask("/pause", { paused }); } catch (error) { fail(error); }
}

// ------------------------------------------------------------------------------------------ answers

function answered(question) { return question.querySelector("input:checked"); }

function activate(index) {
  questions.forEach((question, place) => question.classList.toggle("active", place === index));
  questions[index].scrollIntoView({ block: "nearest" });
}

function changed() {
  find("#submit").disabled = busy || !(told || questions.every(answered));
}

form.addEventListener("change", event => {
  const place = questions.indexOf(event.target.closest("[data-question]"));
  if (place >= 0) { activate(Math.min(place + 1, questions.length - 1)); }
  changed();
});

// One thing at a time: until the next case is in sight, nothing is answered and nothing is sent twice.
async function alone(task) {
  if (busy) { return; }
  busy = true;
  changed();
  find("#error").hidden = true;
  try { await task(); } catch (error) { fail(error); } finally { busy = false; changed(); }
}

form.addEventListener("submit", event => {
  event.preventDefault();
  if (find("#submit").disabled) { return; }
  alone(() => told ? proceed() : send());
});

async function send() {
  const values = { seconds: clock.seconds, submission: open.submission, comment: form.elements.comment?.value ?? "" };
  for (const question of questions) {
    const { name, value } = answered(question);
    values[name] = name === "diagnosis" ? value : Number(value);
  }
  state = await (await ask(`/${open.kind}/${open.position}`, values)).json();
  if (open.kind === "training") { feedback(state.truth); } else { await proceed(true); }
}

function feedback(truth) {
  told = true;
  clock.stop();
  const place = find("#feedback");
  place.textContent = body.dataset.mode === "forced-choice"
    ? `The ${truth ? "right" : "left"} image is synthetic.`
    : `This image is ${truth ? "synthetic" : "real"}.`;
  place.hidden = false;
  for (const input of form.elements) { if (input.type === "radio" || input.type === "textarea") { input.disabled = true; } }
  tell();
  changed();
}

function back() {
  if (!find("#back").hidden) { alone(() => present("case", state.answered - 1)); }
}

// ------------------------------------------------------------------------------------------- images

async function pixelsOf(blob) {
  const bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  const canvas = document.createElement("canvas");
  canvas.width = bitmap.width;
  canvas.height = bitmap.height;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  return { canvas, context, original: context.getImageData(0, 0, canvas.width, canvas.height) };
}

function draw() {
  const table = new Uint8ClampedArray(256);
  for (let value = 0; value < 256; value += 1) {
    const shown = (value - display.level) / display.width * 255 + 127.5;
    table[value] = display.inverted ? 255 - shown : shown;
  }
  canvases.forEach((canvas, place) => {
    const image = images[place];
    if (!image) { return; }
    const { original, context } = image;
    const windowed = new ImageData(original.width, original.height);
    for (let index = 0; index < original.data.length; index += 4) {
      windowed.data[index] = table[original.data[index]];
      windowed.data[index + 1] = table[original.data[index + 1]];
      windowed.data[index + 2] = table[original.data[index + 2]];
      windowed.data[index + 3] = 255;
    }
    context.putImageData(windowed, 0, 0);
    const density = window.devicePixelRatio || 1;
    canvas.width = Math.max(1, Math.round(canvas.clientWidth * density));
    canvas.height = Math.max(1, Math.round(canvas.clientHeight * density));
    const scale = Math.min(canvas.width / original.width, canvas.height / original.height) * display.zoom;
    const target = canvas.getContext("2d");
    target.imageSmoothingEnabled = true;
    target.imageSmoothingQuality = "high";
    target.setTransform(scale, 0, 0, scale, canvas.width / 2 + display.x * canvas.width,
      canvas.height / 2 + display.y * canvas.height);
    target.drawImage(image.canvas, -original.width / 2, -original.height / 2);
  });
  find("#window").value = display.width;
  find("#level").value = display.level;
  find("#zoom").textContent = `${Math.round(display.zoom * 100)} %`;
  find("#invert").setAttribute("aria-pressed", String(display.inverted));
}

function adjust(values) {
  Object.assign(display, values);
  display.width = Math.min(510, Math.max(2, display.width));
  display.level = Math.min(255, Math.max(0, display.level));
  display.zoom = Math.min(12, Math.max(1, display.zoom));
  const reach = display.zoom / 2;
  display.x = Math.min(reach, Math.max(-reach, display.zoom === 1 ? 0 : display.x));
  display.y = Math.min(reach, Math.max(-reach, display.zoom === 1 ? 0 : display.y));
  requestAnimationFrame(draw);
}

function zoomBy(factor, x = 0, y = 0) {
  const zoom = Math.min(12, Math.max(1, display.zoom * factor));
  const change = zoom / display.zoom;
  adjust({ zoom, x: x + (display.x - x) * change, y: y + (display.y - y) * change });
}

for (const canvas of canvases) {
  const pointers = new Map();
  const placeOf = event => {
    const box = canvas.getBoundingClientRect();
    return { x: (event.clientX - box.left) / box.width - .5, y: (event.clientY - box.top) / box.height - .5 };
  };
  canvas.addEventListener("pointerdown", event => {
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, placeOf(event));
  });
  canvas.addEventListener("pointermove", event => {
    const before = pointers.get(event.pointerId);
    if (!before) { return; }
    const now = placeOf(event);
    const other = [...pointers].find(([id]) => id !== event.pointerId)?.[1];
    if (other) {
      const distance = point => Math.hypot(point.x - other.x, point.y - other.y);
      zoomBy(distance(now) / Math.max(.02, distance(before)), (now.x + other.x) / 2, (now.y + other.y) / 2);
    } else if (dragPans || event.buttons === 4) {
      adjust({ x: display.x + now.x - before.x, y: display.y + now.y - before.y });
    } else {
      adjust({ width: display.width + (now.x - before.x) * 300, level: display.level - (now.y - before.y) * 255 });
    }
    pointers.set(event.pointerId, now);
  });
  for (const name of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(name, event => pointers.delete(event.pointerId));
  }
  canvas.addEventListener("wheel", event => {
    event.preventDefault();
    const { x, y } = placeOf(event);
    zoomBy(Math.exp(-event.deltaY / 400), x, y);
  }, { passive: false });
}

new ResizeObserver(() => requestAnimationFrame(draw)).observe(find(".views"));
find("#window").addEventListener("input", event => adjust({ width: Number(event.target.value) }));
find("#level").addEventListener("input", event => adjust({ level: Number(event.target.value) }));
find("#larger").addEventListener("click", () => zoomBy(1.25));
find("#smaller").addEventListener("click", () => zoomBy(.8));
find("#invert").addEventListener("click", () => adjust({ inverted: !display.inverted }));
find("#reset").addEventListener("click", () => adjust({ ...DISPLAY }));
find("#drag").addEventListener("click", event => {
  dragPans = !dragPans;
  event.target.setAttribute("aria-pressed", String(dragPans));
  event.target.textContent = dragPans ? "Drag: move" : "Drag: window";
});

// --------------------------------------------------------------------------------------------- keys

function choose(number) {
  const place = questions.findIndex(question => question.classList.contains("active"));
  const input = questions[place]?.querySelectorAll("input")[number];
  if (input && !input.disabled && !busy) { input.checked = true; input.dispatchEvent(new Event("change", { bubbles: true })); }
}

const KEYS = {
  "[": () => adjust({ width: display.width * .9 }),
  "]": () => adjust({ width: display.width / .9 }),
  ",": () => adjust({ level: display.level - 8 }),
  ".": () => adjust({ level: display.level + 8 }),
  "+": () => zoomBy(1.25),
  "=": () => zoomBy(1.25),
  "-": () => zoomBy(.8),
  "0": () => adjust({ ...DISPLAY }),
  i: () => adjust({ inverted: !display.inverted }),
  b: back,
  p: () => pause(true),
};

document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey) { return; }
  const typing = event.target instanceof HTMLTextAreaElement;
  if (typing) { if (event.key === "Escape") { event.target.blur(); } return; }
  if (event.key === "Enter") {
    if (event.target instanceof HTMLButtonElement || event.target.tagName === "SUMMARY") { return; }  // it does its own
    const main = find("[data-stage]:not([hidden]) button.main");
    if (main && !main.disabled) { event.preventDefault(); main.click(); }
    return;
  }
  if (stage !== "case") { return; }
  const forced = body.dataset.mode === "forced-choice";
  const arrow = ["ArrowLeft", "ArrowRight"].indexOf(event.key);
  if (forced && arrow >= 0 && event.target.type !== "range") { event.preventDefault(); choose(arrow); return; }
  if (!forced && /^[1-9]$/.test(event.key)) { event.preventDefault(); choose(Number(event.key) - 1); return; }
  const action = KEYS[event.key.toLowerCase()];
  if (action) { event.preventDefault(); action(); }
});

// -------------------------------------------------------------------------------------------- start

function theme(name) {
  document.documentElement.classList.remove("light", "dark");
  if (name) { document.documentElement.classList.add(name); }
}

find("#theme").addEventListener("click", () => {
  const dark = getComputedStyle(document.documentElement).colorScheme.trim() === "dark";
  theme(dark ? "light" : "dark");
  try { localStorage.setItem("theme", dark ? "light" : "dark"); } catch { /* a browser that keeps nothing */ }
});
try { theme(localStorage.getItem("theme")); } catch { /* a browser that keeps nothing */ }

find("#agreed").addEventListener("change", event => { find("#begin").disabled = !event.target.checked; });
find("#begin").addEventListener("click", () => alone(async () => {
  state = await (await ask("/consent", { agreed: true })).json();
  await proceed(true);
}));
find("#start").addEventListener("click", () => alone(() => proceed(true)));
find("#pause").addEventListener("click", () => pause(true));
find("#continue").addEventListener("click", () => pause(false));
find("#back").addEventListener("click", back);

// The secret need not stay in sight, nor in a picture of the screen; the cookie has it.
history.replaceState(null, "", "/");
alone(async () => {
  state = await (await ask("/state")).json();
  await proceed();
});
