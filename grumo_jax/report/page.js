"use strict";
// The table of images and the lists of cases, from the JSON in the page. Works without a network.
(() => {
  const models = JSON.parse(document.getElementById("data").textContent);
  const find = (id) => document.getElementById(id);
  const escape = (text) => String(text).replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
  const shown = (value) => (value === null || value === undefined ? "–" : value.toFixed(3));
  const state = { model: 0, estimator: "", sort: "index", descending: false, filter: "", measure: "" };

  const model = () => models[state.model];
  const scores = (place) => (model().scores[state.estimator] || [])[place] || [];
  const columns = () => [
    { key: "index", name: "#", value: (i) => model().images[i][0] },
    { key: "id", name: "image", value: (i) => model().images[i][1] },
    { key: "pixels", name: "pixels", value: (i) => model().images[i][2] },
    ...model().measures.map(({ key, name }, m) => ({ key, name, value: (i) => scores(i)[m] ?? null })),
  ];

  // What is undefined comes last, whichever way the rest is sorted.
  const compare = (value, descending) => (i, j) => {
    const a = value(i), b = value(j);
    if (a === null || b === null) return (a === null) - (b === null) || i - j;
    const order = typeof a === "string" ? (a < b ? -1 : a > b) : a - b;
    return (descending ? -order : order) || i - j;
  };

  const drawImages = () => {
    const all = columns();
    const chosen = all.find((column) => column.key === state.sort) || all[0];
    const wanted = state.filter.toLowerCase();
    const places = model().images.map((_, i) => i)
      .filter((i) => model().images[i][1].toLowerCase().includes(wanted))
      .sort(compare(chosen.value, state.descending));
    const direction = state.descending ? "descending" : "ascending";
    find("images-head").innerHTML = all.map((column) =>
      `<th scope="col"${column.key === "id" ? ' class="text sticky"' : ""}` +
      `${column === chosen ? ` aria-sort="${direction}"` : ""}>` +
      `<button type="button" data-key="${escape(column.key)}">${escape(column.name)}</button></th>`).join("");
    find("images-body").innerHTML = places.map((i) => {
      const [index, id, pixels] = model().images[i];
      const numbers = model().measures.map((_, m) => `<td>${shown(scores(i)[m])}</td>`).join("");
      return `<tr><td>${index}</td><th scope="row" class="sticky" title="${escape(id)}"><bdi dir="ltr">${escape(id)}</bdi></th>` +
        `<td>${pixels}</td>${numbers}</tr>`;
    }).join("");
    find("count").textContent = `${places.length} of ${model().images.length} images`;
  };

  const drawCases = () => {
    const m = model().measures.findIndex(({ key }) => key === state.measure);
    const measure = model().measures[m];
    const places = model().images.map((_, i) => i).filter((i) => (scores(i)[m] ?? null) !== null);
    const badFirst = places.sort(compare((i) => scores(i)[m], measure.better !== "higher"));
    const item = (i) => {
      const [index, id] = model().images[i];
      const picture = model().pictures[index];
      return `<li>${escape(id)} <span class="score">${escape(measure.name)} ${shown(scores(i)[m])}</span>` +
        (picture ? `<img loading="lazy" alt="image, depth, error and uncertainty of ${escape(id)}" src="${picture}">` : "") + "</li>";
    };
    const half = Math.min(5, Math.ceil(badFirst.length / 2));
    find("worst").innerHTML = badFirst.slice(0, half).map(item).join("");
    find("best").innerHTML = badFirst.slice(-half).reverse().slice(0, badFirst.length - half).map(item).join("");
  };

  const options = (select, values, chosen) => {
    select.innerHTML = values.map(([value, name]) => `<option value="${escape(value)}">${escape(name)}</option>`).join("");
    select.value = chosen;
  };
  const settle = () => {
    if (!model().estimators.includes(state.estimator)) state.estimator = model().estimators[0] || "";
    if (!model().measures.some(({ key }) => key === state.measure)) state.measure = "ause.abs_rel";
    for (const select of document.querySelectorAll("select[data-choice]")) {
      const choice = select.dataset.choice;
      const values = {
        model: () => models.map(({ label }, i) => [String(i), label]),
        estimator: () => model().estimators.map((name) => [name, name]),
        measure: () => model().measures.map(({ key, name }) => [key, name]),
      }[choice]();
      options(select, values, String(state[choice]));
    }
    for (const label of document.querySelectorAll(".models")) label.hidden = models.length < 2;
    if (find("filter").value !== state.filter) find("filter").value = state.filter;
  };
  const draw = () => { settle(); drawImages(); drawCases(); };

  const read = () => {
    const given = new URLSearchParams(location.hash.slice(1));
    if (![...given.keys()].some((key) => key in state)) return;
    const place = models.findIndex(({ label }) => label === given.get("model"));
    if (place >= 0) state.model = place;
    for (const key of ["estimator", "sort", "filter", "measure"]) if (given.has(key)) state[key] = given.get(key);
    state.descending = given.has("descending");
  };
  // Not into the history: going back leaves the page at once.
  const write = () => {
    const said = new URLSearchParams();
    if (models.length > 1) said.set("model", model().label);
    for (const key of ["estimator", "measure", "sort"]) said.set(key, state[key]);
    if (state.descending) said.set("descending", "");
    if (state.filter) said.set("filter", state.filter);
    try { history.replaceState(null, "", `#${said}`); } catch { /* Some browsers forbid it for files. */ }
  };

  document.addEventListener("change", ({ target }) => {
    const choice = target.dataset?.choice;
    if (!choice) return;
    state[choice] = choice === "model" ? Number(target.value) : target.value;
    draw(); write();
  });
  find("filter").addEventListener("input", ({ target }) => { state.filter = target.value; drawImages(); write(); });
  find("images-head").addEventListener("click", ({ target }) => {
    const key = target.closest("button")?.dataset.key;
    if (!key) return;
    state.descending = state.sort === key && !state.descending;
    state.sort = key;
    drawImages(); write();
    // The heading was drawn anew: the keyboard's focus goes back to it.
    find("images-head").querySelector(`[data-key="${CSS.escape(key)}"]`).focus();
  });
  addEventListener("hashchange", () => { read(); draw(); });
  if (models.some(({ images }) => images.length)) { read(); draw(); }
})();
