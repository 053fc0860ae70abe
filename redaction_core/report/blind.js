"use strict";
// Original and result side by side in random order; the score stays in this page.
(() => {
  const { trials } = JSON.parse(document.getElementById("trials").textContent);
  const get = (id) => document.getElementById(id);
  const sides = [get("left"), get("right")];
  let order = [];
  let answers = [];
  let first = 0;

  const shuffled = (items) => {
    const found = [...items];
    for (let last = found.length - 1; last > 0; last -= 1) {
      const other = Math.floor(Math.random() * (last + 1));
      [found[last], found[other]] = [found[other], found[last]];
    }
    return found;
  };

  // Wilson 1927: right also for few answers.
  const interval = (right, all) => {
    const z = 1.96;
    const middle = (right + z * z / 2) / (all + z * z);
    const half = z / (all + z * z) * Math.sqrt(right * (all - right) / all + z * z / 4);
    return [middle - half, middle + half].map((share) => `${Math.round(100 * share)} %`);
  };

  const show = () => {
    const trial = order[answers.length];
    first = Math.random() < 0.5 ? 0 : 1;
    sides[first].firstElementChild.src = trial.original;
    sides[1 - first].firstElementChild.src = trial.restored;
    get("where").textContent = `${answers.length + 1} of ${order.length}`;
  };

  const end = () => {
    const right = answers.filter(Boolean).length;
    const [low, high] = interval(right, answers.length);
    get("score").textContent = `${right} of ${answers.length} right, `
      + `${Math.round(100 * right / answers.length)} % (interval of 95 %: ${low} to ${high}).`;
    get("answers").replaceChildren(...order.map((trial, number) => {
      const row = document.createElement("tr");
      const cells = [trial.name, answers[number] ? "right" : "wrong"].map((text) => {
        const cell = document.createElement("td");
        cell.textContent = text; // as text, never as markup: names come from strangers
        return cell;
      });
      cells[1].className = "text";
      row.append(...cells);
      return row;
    }));
    get("game").hidden = true;
    get("end").hidden = false;
  };

  const choose = (side) => {
    const right = side === first;
    answers.push(right);
    get("answer").textContent = right ? "Right: that was the original." : "No: that was the result.";
    if (answers.length < order.length) show(); else end();
  };

  const start = () => {
    order = shuffled(trials);
    answers = [];
    get("answer").textContent = "";
    get("game").hidden = false;
    get("end").hidden = true;
    show();
  };

  sides.forEach((button, side) => button.addEventListener("click", () => choose(side)));
  get("again").addEventListener("click", start);
  start();
})();
