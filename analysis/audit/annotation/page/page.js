"use strict";
// The page of `python -m analysis.annotate`: one item at a time, four answers each. An item is sent when it has all four;
// nothing counts as saved before the program has said so. Texts of items are set as text, never as HTML.

const VALUES = [[true, "Yes", "y"], [false, "No", "n"], [null, "Cannot tell", "c"]];
const QUESTIONS = [[0, 0], [1, 0], [0, 1], [1, 1]]; // (passage, instruction), in the order of the columns of a sheet
const LETTERS = ["A", "B"];

const by = (id) => document.getElementById(id);
let sheets = [];
let order = []; // ids of saved sheets, in the order in which they were saved
let settles = false;
let place = 0; // of the sheet that is shown; sheets.length: all is done
let active = 0; // question that a key answers
let drafts = new Map(); // id -> {answers, given}: what is shown, and which questions were answered here, in order
let actions = Promise.resolve();
let round = 0; // actions of an earlier round are dropped: they were meant for what failed

function word(value) {
  return VALUES.find(([other]) => other === value)[1];
}

function asked(question) {
  const [passage, instruction] = QUESTIONS[question];
  return `passage ${passage + 1} under instruction ${LETTERS[instruction]}`;
}

function raters(sheet, question) {
  const said = sheet.said.map((answers) => answers[question]);
  return { said, agree: said.length > 0 && said.every((value) => value === said[0]) };
}

function draftOf(sheet) {
  if (!drafts.has(sheet.id)) {
    const agreed = QUESTIONS.map((_, question) => {
      const { said, agree } = raters(sheet, question);
      return agree ? said[0] : undefined;
    });
    drafts.set(sheet.id, { answers: sheet.answers ? [...sheet.answers] : agreed, given: [] });
  }
  return drafts.get(sheet.id);
}

function element(kind, className, text) {
  const made = document.createElement(kind);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function textElement(text) {
  const made = element("p", "text", text);
  made.dir = "auto";
  return made;
}

function passageCard(sheet, passage) {
  const card = element("article", "card");
  card.append(element("h2", "", `Passage ${passage + 1}`), textElement(sheet.passages[passage]));
  return card;
}

function questionGroup(sheet, question) {
  const [passage] = QUESTIONS[question];
  const group = element("div", "question");
  group.id = `question-${question}`;
  group.setAttribute("role", "group");
  group.setAttribute("aria-label", `Is ${asked(question).replace(" under", " relevant under")}?`);
  const line = element("div", "asked");
  line.append(element("span", "", `Is passage ${passage + 1} relevant?`));
  const { said, agree } = raters(sheet, question);
  if (said.length) {
    const words = agree ? `Raters agree: ${word(said[0])}` : `Raters differ: ${said.map(word).join(" / ")}`;
    line.append(element("span", "said", words));
  }
  const choices = element("div", "choices");
  for (const [value, text, key] of VALUES) {
    const button = element("button", "", text);
    button.type = "button";
    button.dataset.value = String(value);
    button.setAttribute("aria-keyshortcuts", key);
    button.addEventListener("click", () => act(() => answer(question, value)));
    choices.append(button);
  }
  group.append(line, choices);
  return group;
}

function instructionCard(sheet, instruction) {
  const card = element("section", "card instruction");
  card.setAttribute("aria-label", `Instruction ${LETTERS[instruction]}`);
  card.append(element("h2", "", `Under instruction ${LETTERS[instruction]}`), textElement(sheet.instructions[instruction]));
  QUESTIONS.forEach((pair, question) => {
    if (pair[1] === instruction) card.append(questionGroup(sheet, question));
  });
  return card;
}

function showProgress() {
  const done = sheets.filter((sheet) => sheet.answers).length;
  by("count").textContent = `${done} of ${sheets.length}`;
  by("progress").max = Math.max(1, sheets.length);
  by("progress").value = done;
  by("back").disabled = place === 0;
  by("next").disabled = place >= sheets.length;
  by("undo").disabled = !order.length && (place >= sheets.length || !draftOf(sheets[place]).given.length);
}

function showAnswers() {
  const { answers } = draftOf(sheets[place]);
  QUESTIONS.forEach((_, question) => {
    const group = by(`question-${question}`);
    group.classList.toggle("active", question === active);
    for (const button of group.querySelectorAll("button")) {
      button.setAttribute("aria-pressed", String(button.dataset.value === String(answers[question])));
    }
  });
  by(`question-${active}`).scrollIntoView({ block: "nearest" });
  showProgress();
}

function show(newPlace) {
  place = newPlace;
  const isDone = place >= sheets.length;
  by("sheet").hidden = isDone;
  by("done").hidden = !isDone;
  window.scrollTo(0, 0);
  if (isDone) {
    by("done-head").focus();
    showProgress();
    return;
  }
  const sheet = sheets[place];
  by("query").textContent = sheet.query;
  by("place").textContent = `Item ${place + 1} of ${sheets.length}${sheet.answers ? ", answered" : ""}`;
  by("passages").replaceChildren(passageCard(sheet, 0), passageCard(sheet, 1));
  by("instructions").replaceChildren(instructionCard(sheet, 0), instructionCard(sheet, 1));
  active = Math.max(0, draftOf(sheet).answers.indexOf(undefined));
  showAnswers();
  window.scrollTo(0, 0);
  by("query").focus({ preventScroll: true });
}

function nextOpen(start) {
  for (let step = 0; step < sheets.length; step++) {
    const candidate = (start + step) % sheets.length;
    if (!sheets[candidate].answers) return candidate;
  }
  return sheets.length;
}

function tell(words) {
  by("status").textContent = words;
}

function trouble(words) {
  by("trouble").hidden = !words;
  by("trouble").textContent = words;
}

async function send(address, values) {
  let reply;
  try {
    reply = await fetch(address, {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-Ablate-Annotate": "1" },
      body: JSON.stringify(values),
    });
  } catch {
    throw new Error("the program behind this page has ended. Start it again with the same command and open its address");
  }
  if (!reply.ok) throw new Error((await reply.json()).error);
}

async function answer(question, value) {
  if (place >= sheets.length) return;
  const sheet = sheets[place];
  const draft = draftOf(sheet);
  const before = draft.answers[question];
  draft.answers[question] = value;
  active = question;
  showAnswers();
  if (!draft.answers.includes(undefined)) {
    try {
      await send("/save", { sheet: sheet.id, answers: draft.answers });
    } catch (error) {
      draft.answers[question] = before;
      showAnswers();
      throw error;
    }
  }
  trouble("");
  draft.given.push(question);
  if (draft.answers.includes(undefined)) {
    active = (question + 1) % QUESTIONS.length;
    while (draft.answers[active] !== undefined) active = (active + 1) % QUESTIONS.length;
    tell(`${word(value)}. Next: ${asked(active)}`);
    showAnswers();
  } else if (sheet.answers) {
    sheet.answers = [...draft.answers];
    active = (question + 1) % QUESTIONS.length;
    tell("Changed and saved");
    showAnswers();
  } else {
    sheet.answers = [...draft.answers];
    order.push(sheet.id);
    tell(`Item ${place + 1} is saved`);
    show(nextOpen(place + 1));
  }
}

async function undo() {
  let sheet = sheets[place];
  if (!sheet || !draftOf(sheet).given.length) {
    if (!order.length) return;
    sheet = sheets.find((other) => other.id === order[order.length - 1]);
  }
  const draft = draftOf(sheet);
  if (sheet.answers) {
    await send("/take_back", { sheet: sheet.id });
    sheet.answers = null;
    order = order.filter((id) => id !== sheet.id);
  }
  trouble("");
  const judged = QUESTIONS.map((_, number) => number).filter((number) => !raters(sheet, number).agree);
  const question = draft.given.length ? draft.given.pop() : judged[judged.length - 1];
  draft.answers[question] = undefined;
  show(sheets.indexOf(sheet));
  active = question;
  showAnswers();
  tell(`Taken back: ${asked(question)}`);
}

function move(step) {
  const target = place + step;
  if (target < 0) return;
  tell("");
  show(Math.min(target, nextOpen(0) < sheets.length ? sheets.length - 1 : sheets.length));
}

function openGuide() {
  by("guide").showModal();
  by("guide").scrollTop = 0;
  by("begin").focus({ preventScroll: true });
}

// Actions run one after the other, so that fast keys are neither lost nor taken for another item.
function act(action) {
  const mine = round;
  actions = actions.then(async () => {
    if (mine !== round) return;
    try {
      await action();
    } catch (error) {
      round += 1;
      trouble(`Not saved: ${error.message}.`);
      tell("");
    }
  });
}

function onKey(event) {
  if (event.repeat && ["Enter", " "].includes(event.key) && event.target instanceof HTMLButtonElement) event.preventDefault();
  if (event.repeat || event.ctrlKey || event.metaKey || event.altKey || event.shiftKey || event.isComposing) return;
  if (by("guide").open || !sheets.length) return;
  const key = event.key.toLowerCase();
  const choice = VALUES.find(([, , letter]) => letter === key);
  if (choice) act(() => answer(active, choice[0]));
  else if (key === "u") act(undo);
  else if (key === "g") openGuide();
  else if (key === "arrowleft") act(() => move(-1));
  else if (key === "arrowright") act(() => move(1));
  else return;
  event.preventDefault();
}

async function start() {
  let task;
  try {
    task = await (await fetch("/task")).json();
  } catch {
    trouble("The items could not be loaded. Is the program behind this page still running?");
    return;
  }
  ({ sheets, order, settles } = task);
  by("rater").textContent = settles ? "settling" : `rater ${task.rater}`;
  by("settling").hidden = !settles;
  document.addEventListener("keydown", onKey);
  by("back").addEventListener("click", () => act(() => move(-1)));
  by("next").addEventListener("click", () => act(() => move(1)));
  by("undo").addEventListener("click", () => act(undo));
  by("again").addEventListener("click", () => act(() => show(0)));
  by("help").addEventListener("click", openGuide);
  show(nextOpen(0));
  if (!order.length) openGuide();
}

start();
