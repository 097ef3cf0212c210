"use strict";
// Sends the chosen files one after the other, and shows each answer. Nothing else is asked for.

const find = (selector, inside = document) => inside.querySelector(selector);
const [drop, input, results, said] = ["#drop", "#file", "#results", "#said"].map((id) => find(id));
const waiting = [];
let busy = false;

const say = (text) => { said.textContent = text; };
const show = (element, text) => { element.hidden = false; if (text !== undefined) element.textContent = text; };
const figure = (value) => value.toFixed(3);

function add(files) {
  if (!files.length) {
    say("There is no file in this: save the picture first. An address is not fetched.");
    return;
  }
  const batch = document.createElement("div");
  for (const file of files) {
    const card = find("#result").content.cloneNode(true).firstElementChild;
    find(".name", card).textContent = file.name || "pasted picture";
    find(".state", card).textContent = "Waiting";
    find(".again", card).addEventListener("click", () => enqueue(file, card));
    batch.append(card);
    waiting.push([file, card]);
  }
  results.prepend(batch);
  find("#tools").hidden = false;
  work();
}

function enqueue(file, card) {
  find(".again", card).hidden = true;
  find(".state", card).className = "state";
  show(find(".state", card), "Waiting");
  waiting.push([file, card]);
  work();
}

async function work() {
  if (busy) return;
  busy = true;
  while (waiting.length) {
    const [file, card] = waiting.shift();
    if (!card.isConnected) continue;
    find(".state", card).textContent = "Judging …";
    say(`Judging ${find(".name", card).textContent}` + (waiting.length ? `, ${waiting.length} more to go` : ""));
    const [answer, mayHelp] = await judge(file);
    if (answer.error) refuse(card, answer.error, mayHelp);
    else tellAll(card, answer.pictures);
  }
  busy = false;
}

// [the answer, whether the same file may be judged at another try]
async function judge(file) {
  const {mostBytes, megabytes} = document.body.dataset;
  if (file.size > Number(mostBytes)) return [{error: `This file is larger than ${megabytes} MB, the most that is judged here.`}, false];
  try {
    const response = await fetch("/judge", {method: "POST", body: file, headers: {"content-type": "application/octet-stream"}});
    return [await response.json(), response.status >= 500 || response.status === 408];
  } catch {
    return [{error: "The app does not answer, or the file cannot be read: is ffdi app still running?"}, true];
  }
}

function refuse(card, reason, mayHelp) {
  const state = find(".state", card);
  state.classList.add("bad");
  show(state, `Not judged: ${reason}`);
  find(".again", card).hidden = !mayHelp;
  say(`${find(".name", card).textContent}: not judged. ${reason}`);
}

// A file may hold several pictures: each gets a card of its own.
function tellAll(card, pictures) {
  const more = pictures.slice(1).map(() => card.cloneNode(true));
  card.after(...more);
  [card, ...more].forEach((each, number) => tell(each, pictures[number]));
}

function tell(card, answer) {
  const name = find(".name", card).textContent;
  find(".state", card).hidden = true;
  const verdict = find(".verdict", card);
  verdict.classList.add(answer.verdict);
  show(verdict, answer.verdict[0].toUpperCase() + answer.verdict.slice(1));
  scale(card, answer);
  show(find(".meaning", card), answer.meaning);
  if (answer.warning) show(find(".unlike", card), answer.warning);
  picture(card, answer, name);
  say(`${name}: ${answer.verdict}, score ${figure(answer.score)}.` + (answer.unlike ? " Unlike the training data." : ""));
}

function scale(card, {score, low, high, threshold, spread, note}) {
  const place = (selector, from, to) => {
    const part = find(`.bar ${selector}`, card);
    part.style.left = `${100 * from}%`;
    if (to !== undefined) part.style.width = `${100 * Math.max(0, to - from)}%`;
    return part;
  };
  const banded = low < high;
  place(".real", 0, low);
  place(".undecided", low, high);
  place(".fake", high, 1);
  place(".threshold", threshold);
  const mark = place(".mark", score);
  mark.dataset.score = figure(score);
  mark.classList.toggle("left", score < 0.1);
  mark.classList.toggle("right", score > 0.9);
  const rule = banded
    ? `Real below ${figure(low)}, fake from ${figure(high)} on, undecided between; where it has to choose, fake from the threshold ▲ ${figure(threshold)} on.`
    : `Fake from the threshold ▲ ${figure(threshold)} on, real below.`;
  const apart = spread === null ? "" : ` The tails of single folds differ by ±\u00a0${figure(spread)} (standard deviation).`;
  const whole = find(".scale", card);
  whole.setAttribute("aria-label", `Calibrated probability of fake: ${figure(score)}, on a scale from 0, real, to 1, fake. ${rule}`);
  show(whole);
  show(find(".limits", card), `Calibrated P(fake). ${rule}${apart} ${note}`);
}

function picture(card, answer, name) {
  const [seen, heat, toggle] = [".seen", ".heat", ".toggle"].map((part) => find(part, card));
  find(".picture", card).src = answer.picture;
  find(".picture", card).alt = `${name}, as the model sees it`;
  show(seen);
  show(find(".method", card), answer.method);
  toggle.hidden = !answer.heat;
  if (!answer.heat) return;
  heat.src = answer.heat;
  heat.alt = `Heat map of ${name}`;
  toggle.addEventListener("click", () => {
    heat.hidden = !heat.hidden;
    toggle.setAttribute("aria-pressed", String(!heat.hidden));
  });
}

input.addEventListener("change", () => { add([...input.files]); input.value = ""; });
find("#clear").addEventListener("click", () => {
  waiting.length = 0;
  results.replaceChildren();
  find("#tools").hidden = true;
  say("The list is empty.");
  input.focus();
});
addEventListener("paste", (event) => { if (event.clipboardData.files.length) add([...event.clipboardData.files]); });
for (const kind of ["dragenter", "dragover"]) addEventListener(kind, (event) => { event.preventDefault(); drop.classList.add("over"); });
addEventListener("dragleave", (event) => { if (!event.relatedTarget) drop.classList.remove("over"); });
addEventListener("drop", (event) => { event.preventDefault(); drop.classList.remove("over"); add([...event.dataTransfer.files]); });
