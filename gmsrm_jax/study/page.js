// The page of the study. It knows places on the screen only, never which method made a picture.

const NARROW = matchMedia("(max-width: 599px)"); // two columns, and the page may scroll
const ENLARGED = 2; // pictures are shown at most so many times as large as they are
const SMALLEST = 200; // px: below this width of a picture, the page scrolls rather
const PATIENCE = 15000; // ms for one answer of the server
const ORDINALS = ["1st", "2nd", "3rd", "4th", "5th", "6th", "7th", "8th", "9th"];
const STUDY = document.documentElement.dataset.study;
const STORED_AS = `gmsrm-study-${STUDY}`;
const pictures = (count) => (count === 1 ? "1 picture" : `${count} pictures`);
const at = (id) => document.getElementById(id);

let session; // labels, whether there are inputs, and the samples with their rankings
let participant; // 32 hexadecimal digits
let position = 0; // of the sample on the screen
let picks = []; // places on the screen, the best first: none to all, but never all but one
let ready = false; // all pictures are on the screen, and no vote is on its way

const complete = () => picks.length === session.labels.length;

function becomeSomebody(isNew) {
  // Without storage, a participant lasts as long as the page.
  let stored = null;
  try {
    stored = isNew ? null : localStorage.getItem(STORED_AS);
  } catch {}
  if (!/^[0-9a-f]{32}$/.test(stored ?? "")) {
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    stored = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  }
  participant = stored;
  try {
    localStorage.setItem(STORED_AS, participant);
  } catch {}
}

async function ask(address, options = {}) {
  const signal = AbortSignal.timeout(PATIENCE);
  let answer;
  try {
    answer = await fetch(address, { ...options, signal, cache: "no-store" });
  } catch {
    throw new Error("the study's server does not answer");
  }
  const value = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(value.error ?? `the server says ${answer.status}`);
  return value;
}

function show(view) {
  for (const id of ["intro", "sample", "done"]) at(id).hidden = id !== view;
  say("");
}

function say(text, again = null) {
  const message = at("message");
  message.textContent = text;
  message.hidden = !text;
  if (!again) return;
  const button = Object.assign(document.createElement("button"), { textContent: "Try again" });
  button.type = "button";
  button.addEventListener("click", again);
  message.append(button);
}

async function open(isNew, hasReadIntro = false) {
  becomeSomebody(isNew);
  try {
    session = await ask(`session/${participant}`);
  } catch (error) {
    say(`The study could not be opened: ${error.message}.`, () => open(isNew, hasReadIntro));
    return;
  }
  const samples = session.samples;
  const unranked = samples.findIndex((sample) => !sample.ranking.length);
  const ways = session.labels.length;
  position = unranked < 0 ? samples.length : unranked;
  keyHelp();
  if (hasReadIntro) return showSample();
  at("task").textContent = session.input
    ? `You will see ${pictures(samples.length)} with a hole. For each, ${ways} results show how it could be filled.`
    : `You will see ${pictures(samples.length)} in which a hole was filled, each in ${ways} ways.`;
  at("start").textContent = position ? `Go on with picture ${position + 1}` : "Start";
  at("newcomer").hidden = !position;
  if (unranked < 0) return showDone();
  show("intro");
  at("start").focus();
}

function showSample() {
  if (position === session.samples.length) return showDone();
  const { width, height, ranking } = session.samples[position];
  const count = session.samples.length;
  picks = [...ranking];
  ready = false;
  show("sample");
  at("place").textContent = `Picture ${position + 1} of ${count}`;
  at("progress").max = count;
  at("progress").value = position;
  const cells = Array.from(session.labels, (label, place) => {
    const button = document.createElement("button");
    button.type = "button";
    button.addEventListener("click", (event) => event.detail < 2 && pick(place));
    fill(button, `Result ${label}`, label, place, width, height);
    return button;
  });
  if (session.input) {
    const figure = document.createElement("figure");
    fill(figure, "", "With its hole", "input", width, height);
    figure.querySelector("img").alt = "The picture with its hole";
    cells.unshift(figure);
  }
  at("pictures").replaceChildren(...cells);
  at("pictures").setAttribute("aria-busy", "true");
  update("");
  fit();
  at("place").focus({ preventScroll: true });
  scrollTo(0, 0);
  load(cells.map((cell) => cell.querySelector("img")));
}

function fill(cell, name, caption, place, width, height) {
  const image = new Image(width, height);
  image.alt = "";
  image.src = address(position, place);
  const line = document.createElement("span");
  line.className = "caption";
  const label = Object.assign(document.createElement("span"), { textContent: caption });
  const rank = Object.assign(document.createElement("span"), { className: "rank" });
  line.append(label, rank);
  cell.append(image, line);
  cell.dataset.name = name;
}

function address(of, place) {
  return `image/${participant}/${of}/${place}`;
}

async function load(images) {
  const mine = position;
  const stale = () => position !== mine || !images[0].isConnected;
  try {
    await Promise.all(images.map((image) => image.decode()));
  } catch {
    if (!stale()) say("A picture could not be loaded.", showSample);
    return;
  }
  if (stale()) return;
  ready = true;
  at("pictures").removeAttribute("aria-busy");
  update("");
  if (mine + 1 === session.samples.length) return;
  const places = [...Array(session.labels.length).keys(), ...(session.input ? ["input"] : [])];
  for (const place of places) new Image().src = address(mine + 1, place);
}

function pick(place) {
  if (!ready) return;
  const count = session.labels.length;
  const rank = picks.indexOf(place);
  const label = session.labels[place];
  if (rank >= 0) {
    picks.length = Math.min(rank, count - 2);
    return update(`${label} is taken back. `);
  }
  picks.push(place);
  const said = `${label} is ${ORDINALS[picks.length - 1]}. `;
  if (picks.length === count - 1) {
    picks.push([...Array(count).keys()].find((other) => !picks.includes(other)));
  }
  update(said);
}

function undo() {
  if (!ready) return;
  if (picks.length) {
    picks.length = complete() ? session.labels.length - 2 : picks.length - 1;
    update("Taken back. ");
  } else if (position) {
    position -= 1;
    showSample();
  }
}

function update(said) {
  const count = session.labels.length;
  at("pictures").querySelectorAll("button").forEach((button, place) => {
    const rank = picks.indexOf(place);
    const ordinal = rank < 0 ? "" : ORDINALS[rank];
    button.setAttribute("aria-pressed", String(rank >= 0));
    button.setAttribute("aria-label", button.dataset.name + (ordinal && `, ranked ${ordinal}`));
    button.querySelector(".rank").textContent = ordinal;
  });
  if (complete()) {
    at("prompt").textContent = `Your order: ${picks.map((place) => session.labels[place]).join(", ")}`;
  } else if (picks.length) {
    at("prompt").textContent = `${said}Which is the next best?`;
  } else {
    at("prompt").textContent = "Which result looks best?";
  }
  at("undo").textContent = picks.length || !position ? "Undo" : "Back";
  at("undo").disabled = !picks.length && !position;
  at("submit").disabled = !(complete() && ready);
}

async function submit() {
  if (!ready || !complete()) return;
  const sample = session.samples[position];
  if (sample.ranking.join() !== picks.join()) {
    ready = false;
    say("");
    update("");
    const vote = { study: STUDY, participant, position, ranking: picks };
    const headers = { "Content-Type": "application/json" };
    try {
      await ask("vote", { method: "POST", headers, body: JSON.stringify(vote) });
      sample.ranking = [...picks];
    } catch (error) {
      ready = true;
      update("");
      say(`Your ranking was not stored: ${error.message}.`, submit);
      return;
    }
  }
  position += 1;
  showSample();
}

function showDone() {
  show("done");
  const count = session.samples.length;
  const stored = count === 1 ? "Your ranking is" : `All ${count} rankings are`;
  at("stored").textContent = `${stored} stored. You can close this page.`;
  at("done").querySelector("h1").focus();
}

function fit() {
  if (at("sample").hidden) return;
  const { width, height } = session.samples[position];
  const cells = at("pictures").childElementCount;
  const style = getComputedStyle(at("pictures"));
  const gap = parseFloat(style.columnGap);
  const room = at("pictures").clientWidth;
  const box = (element) => element.getBoundingClientRect(); // offsetHeight would be rounded
  const cell = at("pictures").lastElementChild;
  const frame = box(cell).width - box(cell.querySelector("img")).width;
  const below = box(cell).height - box(cell.querySelector("img")).height;
  const used = box(at("sample")).height - box(at("pictures")).height;
  const padding = parseFloat(getComputedStyle(at("sample").parentElement).paddingTop);
  const free = document.documentElement.clientHeight - used - 2 * padding;
  const widthOf = (columns) => {
    const across = (room - (columns - 1) * gap) / columns;
    const rows = Math.ceil(cells / columns);
    const down = (free - (rows - 1) * gap) / rows - below;
    return Math.min(across, (down * width) / height + frame);
  };
  let columns = Math.min(2, cells);
  if (!NARROW.matches) {
    for (let more = 1; more <= cells; more += 1) {
      if (widthOf(more) > widthOf(columns)) columns = more;
    }
  }
  const least = Math.min(SMALLEST, (room - gap) / 2);
  const wide = Math.min(Math.max(widthOf(columns), least), ENLARGED * width + frame);
  columns = Math.min(columns, Math.floor((room + gap) / (wide + gap)));
  at("pictures").style.setProperty("--columns", columns);
  at("pictures").style.setProperty("--width", `${Math.floor(wide)}px`);
}

function pressed(event) {
  if (at("sample").hidden || event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
  const digit = /^[1-9]$/.test(event.key) ? Number(event.key) - 1 : -1;
  const letter = event.key.length === 1 ? session.labels.indexOf(event.key.toUpperCase()) : -1;
  const place = Math.max(digit, letter);
  if (place >= 0 && place < session.labels.length) pick(place);
  else if (event.key === "Backspace") undo();
  else if (event.key === "Enter" && complete() && document.activeElement !== at("undo")) submit();
  else return;
  event.preventDefault();
}

function keyHelp() {
  const last = session.labels.length;
  const parts = ["1", " to ", String(last), " choose, ", "Backspace", " takes back, ", "Enter", " goes on"];
  const nodes = parts.map((text, index) =>
    index % 2 ? text : Object.assign(document.createElement("kbd"), { textContent: text }),
  );
  at("keys").replaceChildren(...nodes);
}

at("start").addEventListener("click", showSample);
at("newcomer").addEventListener("click", () => open(true, true));
at("next-person").addEventListener("click", () => open(true));
at("undo").addEventListener("click", undo);
at("submit").addEventListener("click", submit);
at("back").addEventListener("click", () => {
  position = session.samples.length - 1;
  showSample();
});
document.addEventListener("keydown", pressed);
addEventListener("resize", fit);
open(false);
