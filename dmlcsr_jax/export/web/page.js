// Parses a photograph inside the browser; model.json says what the labels mean.
import * as ort from "./ort.wasm.min.mjs";

const MOST_BYTES = 2 ** 25;
const MOST_SIDE = 1536; // Larger photographs are reduced: their label maps cost memory, not detail.
const BACKGROUND = 0;
const find = (id) => document.getElementById(id);

let session, about, shown;

function say(text, isError = false) {
  find("status").textContent = text;
  find("status").classList.toggle("error", isError);
}

async function start() {
  ort.env.wasm.wasmPaths = new URL("./", import.meta.url).href;
  // Several threads need a page that is isolated from other origins.
  ort.env.wasm.numThreads = globalThis.crossOriginIsolated ? 0 : 1;
  const [description, model] = await Promise.all(
    ["model.json", "model.onnx"].map(async (name) => {
      const answer = await fetch(name);
      if (!answer.ok) throw new Error(`${name} is missing beside this page`);
      return name.endsWith(".json") ? answer.json() : answer.arrayBuffer();
    }),
  );
  about = description;
  const externalData = about.weights ? [{ path: about.weights, data: about.weights }] : [];
  session = await ort.InferenceSession.create(new Uint8Array(model), { externalData });
  find("convention").textContent = `Labels: ${about.convention}.`;
  find("license").textContent = about.license;
  say("Ready.");
}

function pixelsOf(source, width, height) {
  const scale = Math.min(1, MOST_SIDE / Math.max(width, height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(width * scale));
  canvas.height = Math.max(1, Math.round(height * scale));
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(source, 0, 0, canvas.width, canvas.height);
  return context.getImageData(0, 0, canvas.width, canvas.height);
}

async function parse(photograph) {
  const { width, height, data } = photograph;
  const rgb = new Uint8Array(3 * width * height);
  for (let i = 0, j = 0; i < data.length; i += 4) {
    rgb[j++] = data[i];
    rgb[j++] = data[i + 1];
    rgb[j++] = data[i + 2];
  }
  const started = performance.now();
  const images = new ort.Tensor("uint8", rgb, [1, height, width, 3]);
  const { labels } = await session.run({ images }, ["labels"]);
  const seconds = (performance.now() - started) / 1000;
  shown = { photograph, label: labels.data, hidden: new Set([BACKGROUND]) };
  listParts();
  draw();
  say(`Parsed ${width} x ${height} pixels in ${seconds.toFixed(2)} s.`);
}

function listParts() {
  const counts = new Array(about.classes.length).fill(0);
  for (const value of shown.label) counts[value]++;
  const body = find("parts").tBodies[0];
  body.replaceChildren();
  about.classes.forEach((name, value) => {
    if (!counts[value]) return;
    const row = body.insertRow();
    const box = document.createElement("input");
    box.type = "checkbox";
    box.checked = !shown.hidden.has(value);
    box.setAttribute("aria-label", name);
    box.addEventListener("change", () => {
      shown.hidden[box.checked ? "delete" : "add"](value);
      draw();
    });
    row.insertCell().append(box);
    const colour = document.createElement("span");
    colour.className = "colour";
    colour.style.background = `rgb(${about.palette[value].join()})`;
    row.insertCell().append(colour, name);
    row.insertCell().textContent = counts[value].toLocaleString();
    row.insertCell().textContent = `${((100 * counts[value]) / shown.label.length).toFixed(1)} %`;
  });
  for (const id of ["result", "tools", "parts"]) find(id).hidden = false;
}

function paint(change) {
  const { width, height } = shown.photograph;
  const picture = new ImageData(width, height);
  for (let i = 0; i < shown.label.length; i++) change(picture.data, 4 * i, shown.label[i]);
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  canvas.getContext("2d").putImageData(picture, 0, 0);
  return canvas;
}

function draw() {
  const source = shown.photograph.data;
  const opacity = find("opacity").value / 100;
  const drawn = paint((target, at, value) => {
    const share = shown.hidden.has(value) ? 0 : opacity;
    for (let c = 0; c < 3; c++) {
      target[at + c] = (1 - share) * source[at + c] + share * about.palette[value][c];
    }
    target[at + 3] = 255;
  });
  const canvas = find("picture");
  canvas.width = drawn.width;
  canvas.height = drawn.height;
  canvas.getContext("2d").drawImage(drawn, 0, 0);
}

function save(canvas, name) {
  canvas.toBlob((blob) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  });
}

function saveLabel() {
  // Grey levels are the labels.
  const grey = (target, at, value) => target.set([value, value, value, 255], at);
  save(paint(grey), "label.png");
}

function saveCut() {
  const source = shown.photograph.data;
  const cut = (target, at, value) => {
    if (!shown.hidden.has(value)) target.set([...source.subarray(at, at + 3), 255], at);
  };
  save(paint(cut), "parts.png");
}

// One photograph at a time; what goes wrong with one leaves the page as it was.
let working = Promise.resolve();
function guarded(task) {
  working = working.then(loaded).then(task).catch((error) => say(error.message, true));
  return working;
}

function take(blob) {
  if (!blob) return;
  guarded(async () => {
    if (blob.size > MOST_BYTES) throw new Error(`${blob.name ?? "It"} has more than 32 MiB; take a smaller one.`);
    say("Parsing …");
    const bitmap = await createImageBitmap(blob).catch(() => {
      throw new Error(`${blob.name ?? "It"} is no picture that this browser reads.`);
    });
    await parse(pixelsOf(bitmap, bitmap.width, bitmap.height));
  });
}

async function openCamera() {
  if (!navigator.mediaDevices) throw new Error("A camera needs https, or a page on this machine.");
  const video = find("video");
  video.srcObject = await navigator.mediaDevices.getUserMedia({ video: true });
  await video.play(); // Only then it has a size.
  video.hidden = find("take").hidden = false;
}

async function takePicture() {
  const video = find("video");
  const pixels = pixelsOf(video, video.videoWidth, video.videoHeight);
  for (const track of video.srcObject.getTracks()) track.stop();
  video.hidden = find("take").hidden = true;
  say("Parsing …");
  await parse(pixels);
}

const loading = start();
loading.catch((error) => say(`The model did not load: ${error.message}`, true));
const loaded = () => loading;

find("file").addEventListener("change", (event) => {
  take(event.target.files[0]);
  event.target.value = ""; // The same file may be chosen again.
});
find("camera").addEventListener("click", () => guarded(openCamera));
find("take").addEventListener("click", () => guarded(takePicture));
find("opacity").addEventListener("input", draw);
find("save-label").addEventListener("click", saveLabel);
find("save-cut").addEventListener("click", saveCut);
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  take(event.dataTransfer.files[0]);
});
document.addEventListener("paste", (event) => take(event.clipboardData.files[0]));
