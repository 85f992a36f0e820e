/** The page of `encmixer app`. What is secret stays in this file's variables: it sends ciphertext, names of samples, and nothing else. */

import { decodePng, encodePng, keyText, makeCipher, newKey, preprocess, readImage, readKey, readRecord, toImageData } from "./encmixer.js";

const MOST_BYTES = 6e6; // of ciphertexts in one request, in base64
const GONE = "server: expected an answer, got none; is encmixer app still running?";
const WORDS = { broken: "Broken", "partly broken": "Partly broken", holds: "Holds", "not run": "Not measured" };

const $ = (id) => document.getElementById(id);
const state = {
  about: null,
  key: null, // SecretKey of encmixer.js
  demo: null, // the demo's key, where the app made one
  wrong: false, // the key is not that of the server's model, and its user knows it
  cipher: null, // name
  photo: null, // Pixels
  sample: null, // name; null for the user's own photo
  made: null, // { plain, ciphertext, file } of the photo under the key
  sent: null, // { ciphertext, cipher, wrong, pixels, key, model } that the attacker has seen
  album: null,
};

start().catch(tell);

async function start() {
  state.about = await (await get("about.json")).json();
  state.cipher = Object.keys(state.about.records)[0];
  $("limits").textContent = state.about.limits;
  $("program").textContent = program();
  state.about.samples.forEach(addSample);
  for (const name of Object.keys(state.about.records)) addCipher(name);
  listen();
  if (state.about.has_key) {
    state.demo = readKey(await (await get("demo.key")).text(), { where: "demo key" });
    $("key-demo").hidden = false;
    useKey(state.demo);
  } else {
    const [record] = Object.values(state.about.records);
    $("key-note").textContent = `Open the key file ${record.fingerprint}: the server's model is encrypted with that key. The file is read in this page and sent nowhere.`;
  }
  await useSample(state.about.samples[0]);
  await showCollected();
}

/** Your side */

function addSample(name) {
  const button = element("button", { type: "button", title: name, "aria-label": `Sample: ${name}`, "aria-pressed": "false" });
  button.append(element("img", { src: sampleUrl(name), alt: "" }));
  button.addEventListener("click", guarded(() => useSample(name)));
  button.dataset.sample = name;
  $("samples").append(button);
}

function addCipher(name) {
  const label = element("label");
  const input = element("input", { type: "radio", name: "cipher", value: name, class: "hidden-input" });
  input.checked = name === state.cipher;
  input.addEventListener("change", guarded(() => {
    state.cipher = name;
    return encrypt().then(showCollected);
  }));
  label.append(input, name);
  $("ciphers").append(label);
}

function listen() {
  const drop = $("drop");
  $("photo").addEventListener("change", guarded(({ target }) => target.files.length && usePhoto(target.files[0]).finally(() => (target.value = ""))));
  drop.addEventListener("dragover", (event) => (event.preventDefault(), drop.classList.add("over")));
  drop.addEventListener("dragleave", () => drop.classList.remove("over"));
  drop.addEventListener("drop", guarded((event) => {
    event.preventDefault();
    drop.classList.remove("over");
    return event.dataTransfer.files.length && usePhoto(event.dataTransfer.files[0]);
  }));
  $("key-demo").addEventListener("click", guarded(() => useKey(state.demo)));
  $("key-new").addEventListener("click", guarded(() => useKey(newKey(), { wrong: true })));
  $("key-open").addEventListener("change", guarded(({ target }) => target.files.length && openKey(target.files[0]).finally(() => (target.value = ""))));
  $("key-save").addEventListener("click", guarded(saveKey));
  $("send").addEventListener("click", guarded(send));
  $("attack").addEventListener("click", guarded(attack));
  $("collected").addEventListener("input", guarded(showCollected));
  $("collected").addEventListener("change", guarded(() => !$("attack-result").hidden && attack()));
  $("message-close").addEventListener("click", quiet);
}

async function useSample(name) {
  const file = await (await get(sampleUrl(name))).blob();
  await show(await readImage(file, { where: name }), name);
}

async function usePhoto(file) {
  await show(await readImage(file, { where: file.name }), null);
}

async function show(photo, sample) {
  preprocess(photo, record()); // refuses what cannot be brought to the model's size, before anything is replaced
  Object.assign(state, { photo, sample });
  for (const button of $("samples").children) button.setAttribute("aria-pressed", String(button.dataset.sample === sample));
  draw($("photo-view"), photo);
  await encrypt();
}

async function openKey(file) {
  if (file.size > 65536) throw new Error(`${file.name}: expected a key file of one line, got ${file.size} bytes; open the file that encmixer key new made`);
  const key = readKey(new Uint8Array(await file.arrayBuffer()), { where: file.name });
  try {
    makeCipher(key, record());
  } catch (error) {
    tell(error, () => useKey(key, { wrong: true }));
    return;
  }
  await useKey(key);
}

function useKey(key, { wrong = false } = {}) {
  Object.assign(state, { key, wrong });
  $("fingerprint").textContent = key.fingerprint;
  $("key-save").disabled = false;
  $("key-demo").setAttribute("aria-pressed", String(key === state.demo));
  $("key-note").classList.toggle("alarm", wrong);
  $("key-note").textContent = wrong
    ? "The server's model is of another key, so its answers to this key are worth nothing. A model for this key: encmixer model encrypt, then encmixer app --model."
    : key === state.demo
      ? "Made by this demo as it started, and handed to every visitor. A key of your own stays with you."
      : "Your key fits the server's model. It stays in this page.";
  return encrypt().then(showCollected);
}

function saveKey() {
  const link = element("a", { href: URL.createObjectURL(new Blob([keyText(state.key)], { type: "text/plain" })), download: `${state.key.fingerprint}.key` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

/** The record of the chosen cipher; under a wrong key, which the user knows of, as that key's. */
function record() {
  const public_ = readRecord(state.about.records[state.cipher]);
  return state.wrong ? { ...public_, fingerprint: state.key.fingerprint } : public_;
}

async function encrypt() {
  state.made = null;
  $("send").disabled = true;
  if (!state.photo) return;
  const plain = preprocess(state.photo, record());
  draw($("plain"), plain);
  $("plain-caption").textContent = `plain, ${plain.width} × ${plain.height} px`;
  if (!state.key) return;
  const ciphertext = makeCipher(state.key, record()).encrypt(plain);
  draw($("ciphertext"), ciphertext);
  state.made = { plain, ciphertext, file: encodePng(ciphertext, { record: record() }) };
  $("send").disabled = false;
  $("send").textContent = `Send ${grouped(state.made.file.length)} bytes of ciphertext`;
}

/** The server */

async function send() {
  const { made, cipher, wrong, sample, key } = state;
  const model = record();
  await busy($("send"), async () => {
    const ciphertext = base64(made.file);
    const answer = await call("classify", [ciphertext, cipher, wrong]);
    const compared = sample === null ? null : await compare(sample, cipher);
    state.sent = { ciphertext, cipher, wrong, pixels: made.ciphertext, key, model };
    await showCollected();
    const arrived = await decodePng(bytes(answer.arrived.image), { where: "answer" });
    draw($("arrived"), arrived);
    $("arrived-caption").textContent = `${grouped(answer.arrived.bytes)} bytes, ${answer.arrived.width} × ${answer.arrived.height} px, ${cipher}, key ${arrived.imageRecord.fingerprint}`;
    $("answer").replaceChildren(...answer.classes.map(bar));
    $("comparison").replaceChildren(compared ? comparison(compared, answer.classes[0].class) : ownPhoto());
    $("server-empty").hidden = true;
    $("server-result").hidden = false;
    $("attack").disabled = false;
    $("attack-empty").hidden = false;
    $("attack-empty").querySelector("p").textContent = "The attacker has your ciphertext.";
    $("attack-result").hidden = true;
  });
}

async function compare(sample, cipher) {
  const [plain, without] = await Promise.all([state.about.compares ? call("plain", [sample]) : null, call("without_key", [sample, cipher])]);
  return { plain, ...without };
}

function comparison({ plain, ...without }, answered) {
  const box = element("div", { class: "compared" });
  const words = { "wrong key": ["Wrong key", "encrypted model"], "no key": ["No key", "encrypted model, plain photo"] };
  const truth = plain ? plain[0].class : answered;
  const shown = [...(plain ? [["Plain model", "plain photo", plain]] : []), ...Object.entries(without).map(([who, answer]) => [...words[who], answer])];
  for (const [title, what, answer] of shown) {
    const one = element("div", { class: answer[0].class === truth ? "same" : "other" });
    const head = element("h4");
    head.append(title, Object.assign(element("small"), { textContent: what }));
    const list = element("ol", { class: "bars" });
    list.append(...answer.map(bar));
    one.append(head, list);
    box.append(one);
  }
  const title = Object.assign(element("h3"), { textContent: "The same sample otherwise" });
  const fragment = document.createDocumentFragment();
  fragment.append(title, box);
  return fragment;
}

function ownPhoto() {
  const text = "The plain model is not asked about a photo of your own: for that the photo would have to leave the page. Take a sample to compare.";
  return Object.assign(element("p", { class: "note" }), { textContent: text });
}

function bar({ class: name, share }) {
  const item = element("li");
  const fill = element("b");
  fill.style.setProperty("--share", `${100 * share}%`);
  const track = element("div", { class: "track" });
  track.append(fill);
  item.append(
    Object.assign(element("span", { title: name }), { textContent: name }),
    Object.assign(element("span", { class: "share" }), { textContent: `${(100 * share).toFixed(share < 0.1 ? 1 : 0)}%` }),
    track,
  );
  return item;
}

/** The attacker */

async function attack() {
  const { ciphertext, cipher, wrong, pixels } = state.sent;
  await busy($("attack"), async () => {
    const others = (await collected()).map((one) => base64(one.file));
    const found = await call("attack", [ciphertext, others, cipher, wrong]);
    draw($("intercepted"), pixels);
    draw($("recovered"), await decodePng(bytes(found.image), { where: "answer" }));
    $("others").hidden = found.others === null;
    if (found.others !== null) await drawFile($("recovered-others"), bytes(found.others));
    $("recovered-caption").textContent = `recovered in ${found.seconds.toFixed(1)} s`;
    $("verdict").textContent = WORDS[found.verdict];
    $("verdict").dataset.verdict = found.verdict;
    $("finding").textContent = found.finding;
    const likeness = found.ssim === null ? "" : ` Structural similarity to the ${found.measured_on} album pictures: ${found.ssim.toFixed(2)} of 1.`;
    $("measured").textContent = `${found.attacks.join(", then ")} on ${found.collected} ciphertext${found.collected === 1 ? "" : "s"}.${likeness}`;
    $("attack-empty").hidden = true;
    $("attack-result").hidden = false;
  });
}

/** The ciphertexts of others that the slider asks for, encrypted here: under the key and cipher of what was sent, else those chosen. */
async function collected() {
  if (!state.key) return [];
  const { key, model } = state.sent ?? { key: state.key, model: record() };
  const cipher = makeCipher(key, model);
  const wanted = Number($("collected").value);
  const ciphertexts = (await album()).slice(0, wanted).map((picture) => cipher.encrypt(preprocess(picture, model)));
  return ciphertexts.map((ciphertext) => ({ ciphertext, file: encodePng(ciphertext, { record: model }) }));
}

async function showCollected() {
  const slider = $("collected");
  if (state.made) slider.max = Math.min(state.about.album.pictures, Math.floor(MOST_BYTES / (1.4 * state.made.file.length)) - 1);
  $("collected-count").textContent = slider.value;
  const others = await collected();
  const canvas = $("mosaic");
  const columns = others.length > 50 ? 20 : 10; // as the server arranges what it recovers
  const side = canvas.width / columns;
  canvas.height = side * Math.max(1, Math.ceil(others.length / columns));
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = false;
  for (const [index, { ciphertext }] of others.entries()) {
    const picture = await createImageBitmap(toImageData(ciphertext));
    context.drawImage(picture, (index % columns) * side, Math.floor(index / columns) * side, side - 1, side - 1);
  }
  canvas.hidden = others.length === 0;
}

async function album() {
  if (state.album) return state.album;
  const { pictures, size } = state.about.album;
  const sheet = await decodePng(new Uint8Array(await (await get("album.png")).arrayBuffer()), { where: "album" });
  const columns = sheet.width / size;
  state.album = Array.from({ length: pictures }, (_, index) => {
    const data = new Uint8Array(size * size * sheet.channels);
    for (let row = 0; row < size; row++) {
      const from = ((Math.floor(index / columns) * size + row) * sheet.width + (index % columns) * size) * sheet.channels;
      data.set(sheet.data.subarray(from, from + size * sheet.channels), row * size * sheet.channels);
    }
    return { data, width: size, height: size, channels: sheet.channels };
  });
  return state.album;
}

/** Calls, messages, pictures */

async function get(url) {
  const answer = await fetch(url).catch(() => null);
  if (!answer?.ok) throw new Error(GONE);
  return answer;
}

/** Call a named endpoint of Gradio: ask, then wait for the event that answers. */
async function call(name, data) {
  const headers = { "Content-Type": "application/json" };
  const asked = await fetch(`gradio_api/call/${name}`, { method: "POST", headers, body: JSON.stringify({ data }) }).catch(() => null);
  if (!asked) throw new Error(GONE);
  const reply = await asked.json().catch(() => ({}));
  if (!asked.ok) throw new Error(asked.status === 503 ? "server: expected a place in its queue, got none; try again in a moment" : (reply.error ?? GONE));
  const events = await fetch(`gradio_api/call/${name}/${reply.event_id}`).then((answer) => answer.text()).catch(() => "");
  const last = [...events.matchAll(/^event: (\w+)\ndata: (.*)$/gm)].filter(([, kind]) => kind !== "heartbeat").at(-1);
  if (!last) throw new Error(GONE);
  const value = JSON.parse(last[2]);
  if (last[1] !== "complete") throw new Error(value?.error ?? GONE);
  return value[0];
}

/** Show an error, one at a time; `anyway` is what its user may do all the same. */
function tell(error, anyway = null) {
  $("message-text").textContent = error.message;
  $("message-anyway").hidden = anyway === null;
  $("message-anyway").onclick = anyway && guarded(anyway);
  $("message").hidden = false;
}

function quiet() {
  $("message").hidden = true;
}

function guarded(action) {
  return async (event) => {
    quiet();
    try {
      await action(event);
    } catch (error) {
      tell(error);
    }
  };
}

async function busy(button, action) {
  button.disabled = true;
  button.classList.add("busy");
  try {
    await action();
  } finally {
    button.classList.remove("busy");
    button.disabled = false;
  }
}

function draw(canvas, image) {
  canvas.width = image.width;
  canvas.height = image.height;
  canvas.classList.toggle("smooth", image.width > 160);
  canvas.getContext("2d").putImageData(toImageData(image), 0, 0);
}

/** Draw a PNG file, with its transparent parts. */
async function drawFile(canvas, file) {
  const picture = await createImageBitmap(new Blob([file], { type: "image/png" }));
  Object.assign(canvas, { width: picture.width, height: picture.height });
  canvas.getContext("2d").drawImage(picture, 0, 0);
}

function element(name, attributes = {}) {
  const made = document.createElement(name);
  for (const [attribute, value] of Object.entries(attributes)) made.setAttribute(attribute, value);
  return made;
}

function base64(file) {
  let text = "";
  for (let start = 0; start < file.length; start += 32768) text += String.fromCharCode(...file.subarray(start, start + 32768));
  return btoa(text);
}

function bytes(text) {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}

function grouped(number) {
  return number.toLocaleString("en");
}

function sampleUrl(name) {
  return `samples/${encodeURIComponent(name)}.png`;
}

function program() {
  return `import base64, io
import timm_encmixer as te
from gradio_client import Client
from PIL import Image

client = Client("${location.origin}${location.pathname}")
transform = te.create_transform("encrypted", key="owner.key", output="image")  # the key stays here
file = io.BytesIO()
transform(Image.open("photo.jpg")).save(file, "PNG")
print(client.predict(base64.b64encode(file.getvalue()).decode(), "${state.cipher}", api_name="/classify"))`;
}
