/**
 * The page of `encmixer app`. What is secret stays in this file's variables: it sends ciphertext, under the demo's key names of
 * samples too, and nothing else. Samples and the album are public, so nothing of them is ever encrypted under another key.
 */

import { decodePng, encodePng, keyText, makeCipher, newKey, preprocess, readImage, readKey, readRecord, toImageData } from "./encmixer.js";

const MOST_BYTES = 6e6; // of ciphertexts in one request, in base64
const AT_FIRST = 10; // ciphertexts of the album that the attacker has
const GONE = "server: expected an answer, got none; is encmixer app still running?";
const VERDICTS = { broken: "Broken", "partly broken": "Partly broken", holds: "Holds", "not run": "Not measured" };
const ATTACKS = {
  blind_jigsaw: "puts the blocks together like a jigsaw",
  ciphertext_only_shuffle: "finds the places of pixels by what neighbouring pixels have in common",
  ciphertext_only_etc: "finds turns and inversions by what neighbouring blocks have in common",
  thumbnail: "takes the mean of each block",
};

const $ = (id) => document.getElementById(id);
const state = {
  about: null,
  demo: null, // the demo's key, where the app made one
  key: null, // SecretKey of encmixer.js
  wrong: false, // the key is not that of the server's model, and its user knows it
  cipher: null, // name
  photo: null, // { pixels, sample, sent }: sample is its name, null for the user's own photo
  made: null, // { ciphertext, file, text } of the photo under the key; text is the file in base64
  sent: null, // { ciphertext, text, cipher, wrong, key, model } that the server and the attacker have seen
  mine: new Map(), // what this user has sent, by key and cipher, where the key is no public one
  album: null,
  choices: 0, // of photos and keys, so that one that is read late does not replace a later one
  drawings: 0, // of the mosaic, likewise
  again: false, // the slider was moved while an attack ran
};

start().catch(tell);

async function start() {
  state.about = await (await get("about.json")).json();
  state.cipher = Object.keys(state.about.records)[0];
  $("limits").textContent = state.about.limits;
  $("program").textContent = program();
  state.about.samples.forEach(addSample);
  for (const name of Object.keys(state.about.records)) addCipher(name);
  $("cipher-note").textContent = inWords(state.cipher);
  listen();
  if (state.about.has_key) {
    state.demo = readKey(await (await get("demo.key")).text(), { where: "demo key" });
    $("key-demo").hidden = false;
    await useKey(state.demo);
  } else {
    const [record] = Object.values(state.about.records);
    $("key-note").textContent = `Open the key file ${record.fingerprint}: the server's model is encrypted with that key. The file is read in this page and sent nowhere.`;
    $("samples-note").hidden = false;
    await showCollected();
  }
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
  const label = element("label", { title: inWords(name) });
  const input = element("input", { type: "radio", name: "cipher", value: name, class: "hidden-input" });
  input.checked = name === state.cipher;
  input.addEventListener("change", guarded(() => {
    state.cipher = name;
    $("program").textContent = program();
    $("cipher-note").textContent = inWords(name);
    return encrypt();
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
  $("attack").addEventListener("click", guarded(async () => (await attack()) && reveal("attack-result")));
  $("collected").addEventListener("input", guarded(showCollected));
  $("collected").addEventListener("change", guarded(() => (!$("attack-result").hidden || isBusy("attack")) && attack()));
  $("message-close").addEventListener("click", quiet);
}

/** The demo's key is public. Any other is its user's, and no known picture may be encrypted with it. */
function isPublic(key) {
  return state.demo !== null && key?.fingerprint === state.demo.fingerprint;
}

async function useSample(name) {
  await choose(name, async () => readImage(await (await get(sampleUrl(name))).blob(), { where: name }));
}

async function usePhoto(file) {
  await choose(null, () => readImage(file, { where: file.name }));
}

async function choose(sample, read) {
  const choice = ++state.choices;
  try {
    const pixels = await read();
    if (choice !== state.choices) return;
    preprocess(pixels, record()); // refuses what cannot be brought to the model's size
    await show({ pixels, sample, sent: false });
  } catch (error) {
    if (choice !== state.choices) return;
    await show(null);
    throw error;
  }
}

async function show(photo) {
  state.photo = photo;
  for (const button of $("samples").children) button.setAttribute("aria-pressed", String(button.dataset.sample === photo?.sample));
  $("drop").toggleAttribute("data-empty", photo === null);
  photo === null ? ["photo-view", "plain", "ciphertext"].forEach(clear) : draw($("photo-view"), photo.pixels);
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

async function useKey(key, { wrong = false } = {}) {
  state.choices++;
  const isOther = key.fingerprint !== state.key?.fingerprint;
  Object.assign(state, { key, wrong });
  const demo = isPublic(key);
  $("fingerprint").textContent = key.fingerprint;
  $("fingerprint-note").hidden = false;
  $("key-save").disabled = false;
  $("key-demo").setAttribute("aria-pressed", String(demo));
  $("key-note").classList.toggle("alarm", wrong);
  $("key-note").textContent = wrong
    ? "The server's model is not encrypted with this key, so its answers are worth nothing. A model for this key: encmixer model encrypt, then encmixer app --model."
    : demo
      ? "Made by this demo as it started, and handed to every visitor. A key of your own stays with you."
      : "Your key fits the server's model. It stays in this page.";
  $("samples").hidden = !demo;
  $("samples-note").hidden = demo;
  if (isOther && (state.photo?.sample || state.photo?.sent)) await show(null); // one picture under two keys is a known pair, if one key is public
  else await encrypt();
  if (demo && state.photo === null) await useSample(state.about.samples[0]);
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
  $("plain-caption").textContent = "plain";
  if (state.photo) {
    const plain = preprocess(state.photo.pixels, record());
    draw($("plain"), plain);
    $("plain-caption").textContent = `plain, ${plain.height} × ${plain.width} px`;
    if (state.key) {
      const ciphertext = makeCipher(state.key, record()).encrypt(plain);
      draw($("ciphertext"), ciphertext);
      const file = encodePng(ciphertext, { record: record() });
      state.made = { ciphertext, file, text: base64(file) };
    }
  }
  $("send").textContent = state.made ? `Send ${grouped(state.made.file.length)} bytes of ciphertext` : "Send";
  enable();
  await showCollected();
}

/** What can be sent or attacked, and whether the results are of what is chosen now. */
function enable() {
  $("send").disabled = state.made === null || isBusy("send");
  $("attack").disabled = state.sent === null || isBusy("attack");
  const isOld = state.sent !== null && state.made?.text !== state.sent.text;
  for (const who of ["server", "attack"]) {
    $(`${who}-result`).classList.toggle("old", isOld);
    $(`${who}-old`).hidden = !isOld;
  }
}

/** The server */

async function send() {
  const { made, cipher, wrong, photo, key } = state;
  const model = record();
  await busy("send", async () => {
    photo.sent = true;
    const answer = await call("classify", [made.text, cipher, wrong]);
    const compared = photo.sample !== null && isPublic(key) ? await compare(photo.sample, cipher) : null;
    state.sent = { ...made, cipher, wrong, key, model };
    keep(state.sent);
    const arrived = await decodePng(bytes(answer.arrived.image), { where: "answer" });
    draw($("arrived"), arrived);
    $("arrived-caption").textContent = `${grouped(answer.arrived.bytes)} bytes, ${answer.arrived.height} × ${answer.arrived.width} px, ${cipher}, key ${arrived.imageRecord.fingerprint}`;
    $("worthless").hidden = !wrong;
    $("server-result").classList.toggle("worthless", wrong);
    $("answer").replaceChildren(...answer.classes.map(bar));
    $("comparison").replaceChildren(compared ? comparison(compared) : ownPhoto(key));
    $("server-empty").hidden = true;
    $("server-result").hidden = false;
    $("attack-empty").hidden = false;
    $("attack-empty").querySelector("p").textContent = "The attacker has your ciphertext.";
    $("attack-result").hidden = true;
    await showCollected();
  });
  reveal("server-result");
}

/** Remember what the attacker of a key that is not public has seen. */
function keep({ key, cipher, ciphertext, file, text }) {
  const kept = mine(key, cipher);
  if (!isPublic(key) && !kept.some((one) => one.text === text)) state.mine.set(`${key.fingerprint} ${cipher}`, [...kept, { ciphertext, file, text }]);
}

function mine(key, cipher) {
  return state.mine.get(`${key.fingerprint} ${cipher}`) ?? [];
}

async function compare(sample, cipher) {
  const [plain, without] = await Promise.all([call("plain", [sample]), call("without_key", [sample, cipher])]);
  return { plain, ...without };
}

function comparison({ plain, ...without }) {
  const box = element("div", { class: "compared" });
  const words = { "wrong key": ["Wrong key", "photo under another key than the model"], "no key": ["No key", "plain photo sent to the encrypted model"] };
  const shown = [["Plain model", "on the plain photo", plain], ...Object.entries(without).map(([who, answer]) => [...words[who], answer])];
  for (const [title, what, answer] of shown) {
    const one = element("div", { class: answer[0].class === plain[0].class ? "same" : "other" });
    const head = element("h4");
    head.append(title, Object.assign(element("small"), { textContent: what }));
    const list = element("ol", { class: "bars" });
    list.append(...answer.map(bar));
    one.append(head, list);
    box.append(one);
  }
  const title = Object.assign(element("h3"), { textContent: "What it takes: the right model and key" });
  const fragment = document.createDocumentFragment();
  fragment.append(title, box);
  return fragment;
}

function ownPhoto(key) {
  const text = isPublic(key)
    ? "The plain model is not asked about a photo of your own: for that the photo would have to leave the page. Take a sample to compare."
    : "There is nothing to compare with: for that the photo would have to leave the page.";
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

/** Ask for an attack, one at a time: of slider moves meanwhile the last one counts. Returns whether a result is shown. */
async function attack() {
  state.again = true;
  if (isBusy("attack")) return false;
  const { sent } = state;
  let found = null;
  await busy("attack", async () => {
    while (state.again && state.sent === sent) {
      state.again = false;
      found = await call("attack", [sent.text, (await collected()).map((one) => base64(one.file)), sent.cipher, sent.wrong]);
    }
    if (state.sent !== sent) return; // another ciphertext was sent meanwhile
    draw($("intercepted"), sent.ciphertext);
    draw($("recovered"), await decodePng(bytes(found.image), { where: "answer" }));
    $("others").hidden = found.others === null;
    if (found.others !== null) await drawFile($("recovered-others"), bytes(found.others));
    $("recovered-caption").textContent = `recovered in ${found.seconds.toFixed(1)} s`;
    $("verdict").textContent = VERDICTS[found.verdict];
    $("verdict").dataset.verdict = found.verdict;
    $("finding").textContent = found.ssim === null ? "You know the true picture: compare." : found.finding;
    $("measured").textContent = found.ssim === null ? "" : `Measured on the ${found.measured_on} album pictures: similarity ${found.ssim.toFixed(2)} (1 = the same).`;
    const how = found.attacks.map((name) => (ATTACKS[name] ? `${name}: ${ATTACKS[name]}` : name)).join("; then ");
    $("how").textContent = `${how}. On ${found.collected} ciphertext${found.collected === 1 ? "" : "s"}.`;
    $("attack-empty").hidden = true;
    $("attack-result").hidden = false;
  });
  return state.sent === sent;
}

/** Whose ciphertexts the slider counts: of what was sent, else of what is chosen. */
function collectedUnder() {
  return state.sent ?? { key: state.key, cipher: state.cipher, model: record() };
}

/**
 * What the attacker has beside the ciphertext that was sent, as many as the slider says: under the demo's key pictures of the
 * album, encrypted here; under another key what this user has sent with it before.
 */
async function collected() {
  const { key, cipher: name, model, text } = collectedUnder();
  const wanted = Number($("collected").value);
  if (key === null || wanted === 0) return [];
  if (!isPublic(key)) return others(key, name, text).slice(-wanted);
  const cipher = makeCipher(key, model);
  const ciphertexts = (await album()).slice(0, wanted).map((picture) => cipher.encrypt(preprocess(picture, model)));
  return ciphertexts.map((ciphertext) => ({ ciphertext, file: encodePng(ciphertext, { record: model }) }));
}

function others(key, cipher, text) {
  return mine(key, cipher).filter((one) => one.text !== text);
}

/** Show what the attacker has; the slider goes as far as there are ciphertexts. */
async function showCollected() {
  const drawing = ++state.drawings;
  const { key, cipher, text } = collectedUnder();
  const slider = $("collected");
  const isDemo = isPublic(key);
  const there = isDemo ? state.about.most_collected : key ? others(key, cipher, text).length : 0;
  const size = (state.sent ?? state.made)?.file.length ?? 1;
  const wasAtMost = slider.value === slider.max;
  slider.max = Math.max(0, Math.min(state.about.most_collected, there, Math.floor(MOST_BYTES / (1.4 * size)) - 1));
  if (slider.dataset.isDemo !== String(isDemo) || (!isDemo && wasAtMost)) slider.value = isDemo ? AT_FIRST : slider.max; // what one has sent, the attacker has
  slider.dataset.isDemo = String(isDemo);
  slider.disabled = slider.max === "0";
  $("collected-words").textContent = isDemo ? "Ciphertexts of others under this key" : "Ciphertexts that you sent before, under this key";
  $("collected-note").textContent = isDemo
    ? "The page encrypts pictures of a public album in the place of others, so that what an attack gains can be measured."
    : "The attacker has what you sent in this page under this key. Nothing public is encrypted with it, so only you can tell what an attack gains.";
  $("collected-count").textContent = slider.value;
  const pictures = await Promise.all((await collected()).map(({ ciphertext }) => createImageBitmap(toImageData(ciphertext))));
  if (drawing !== state.drawings) return;
  const canvas = $("mosaic");
  const columns = pictures.length > 50 ? 15 : 10; // as the server arranges what it recovers
  const side = canvas.width / columns;
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingEnabled = false;
  for (const [index, picture] of pictures.entries()) context.drawImage(picture, (index % columns) * side, Math.floor(index / columns) * side, side - 1, side - 1);
}

async function album() {
  if (state.album) return state.album;
  const { most_collected: pictures, album_px: size } = state.about;
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

async function busy(id, action) {
  const focused = document.activeElement === $(id);
  $(id).classList.add("busy");
  enable();
  try {
    await action();
  } finally {
    $(id).classList.remove("busy");
    enable();
    // a button that is disabled loses the focus; who went on meanwhile keeps it elsewhere
    if (focused && document.activeElement === document.body) $(id).focus({ preventScroll: true });
  }
}

function isBusy(id) {
  return $(id).classList.contains("busy");
}

/** Where the columns stand below each other, go to what has just come. */
function reveal(id) {
  if (!matchMedia("(max-width: 980px)").matches) return;
  const behavior = matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth";
  (id === "server-result" ? $(id).closest(".card") : $(id)).scrollIntoView({ behavior, block: "start" });
}

function inWords(cipher) {
  return `${cipher.split("+").map((part) => `${part} ${state.about.parts[part]}`).join("; ")}.`;
}

function clear(id) {
  Object.assign($(id), { width: 1, height: 1 });
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
  const key = state.about.has_key
    ? `file = Path("demo.key")
file.touch(0o600)
file.write_bytes(urlopen(page + "demo.key").read())  # the demo's key is public; yours stays on your machine`
    : `file = Path("owner.key")  # it stays here`;
  return `import base64, io, json
from pathlib import Path
from urllib.request import urlopen

import timm_encmixer as te
from gradio_client import Client
from PIL import Image

page = "${location.origin}${location.pathname}"
${key}
record = te.Scheme.from_dict(json.load(urlopen(page + "about.json"))["records"]["${state.cipher}"])
transform = te.create_transform(record, key=file, output="image")
png = io.BytesIO()
transform(Image.open("photo.jpg")).save(png, "PNG")
client = Client(page, verbose=False)
print(client.predict(base64.b64encode(png.getvalue()).decode(), "${state.cipher}", api_name="/classify"))`;
}
