// What a reader sees, in headless Chromium; called by check_browser.py, which installs what is needed.
//   node browser.js pages OUT WIDTH,WIDTH FILE...       pages from files: mathematics, pictures, widths; screenshots
//   node browser.js lab OUT BASE TOKEN NOTEBOOK...      JupyterLab: opens each notebook, Run All Cells, and looks
// Prints one line of JSON for each page; what is wrong with it stands in `problems`.
const fs = require("fs"), path = require("path"), url = require("url");
const { chromium } = require("playwright-core");
const [, , mode, out, ...rest] = process.argv;
const modules = path.join(path.dirname(require.resolve("playwright-core/package.json")), "..");

// requests to the networks that pages name are served from node_modules, or refused: nothing leaves this machine
const LOCAL = [
  [/mathjax\/2\.[\d.]+\/([^?]*)/i, (m) => "mathjax2/" + m[1]],
  [/require\.js\/[\d.]+\/require\.min\.js/, () => "requirejs/require.js"],
  [/npm\/mathjax@4[^/]*\/([^?]*)/, (m) => "mathjax4/" + m[1]],
  [/npm\/(@mathjax\/[^@/]*)@[^/]*\/([^?]*)/, (m) => m[1] + "/" + m[2]],
];
const TYPES = { ".js": "application/javascript", ".css": "text/css", ".woff": "font/woff", ".woff2": "font/woff2" };

async function offline(page) {
  await page.route(/^https?:\/\/(?!127\.0\.0\.1|localhost)/, (route) => {
    for (const [pattern, file] of LOCAL) {
      const match = route.request().url().match(pattern);
      const found = match && path.join(modules, file(match));
      if (found && fs.existsSync(found)) {
        const contentType = TYPES[path.extname(found)] || "application/octet-stream";
        return route.fulfill({ path: found, contentType, headers: { "access-control-allow-origin": "*" } });
      }
    }
    return route.abort();
  });
}

// runs in the page: what is wrong with what is shown
function look() {
  const problems = [], cut = (text) => text.trim().replace(/\s+/g, " ").slice(0, 70);
  const math = document.querySelectorAll(".MathJax_Error, .merror, mjx-merror");
  for (const node of math) problems.push("mathematics: " + cut(node.textContent || node.getAttribute("data-mjx-error")));
  const source = document.querySelector(".jp-MarkdownOutput, article, main") || document.body;
  if (/\$\$|\\begin\{/.test(source.innerText.replace(/\$\$?\s*\n/g, (m) => m)))
    problems.push("mathematics that was not set: " + cut(source.innerText.match(/.{0,30}(\$\$|\\begin\{).{0,30}/s)[0]));
  for (const image of document.images) {
    const shown = image.getBoundingClientRect().width > 0, inside = !/^https?:/.test(image.getAttribute("src") || "");
    if (inside && shown && image.complete && !image.naturalWidth) problems.push("no picture: " + image.src.slice(0, 70));
  }
  for (const output of document.querySelectorAll(".jp-OutputArea-output, .cell_output .output"))
    if (/^<[\w.]+ (object|at 0x)|^<Figure size/.test(output.innerText.trim()))
      problems.push("an output shows only its repr: " + cut(output.innerText));
  const width = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth > width + 2)
    problems.push(`the page is ${document.documentElement.scrollWidth} wide, the window ${width}`);
  const scrolls = (node) => {
    for (let up = node; up && up !== document.body; up = up.parentElement)
      if (/auto|scroll/.test(getComputedStyle(up).overflowX)) return true;
    return false;
  };
  for (const node of document.querySelectorAll("p, li, h1, h2, h3, td, th, pre, summary, img, .MathJax_Display, mjx-container")) {
    const box = node.getBoundingClientRect();
    const visible = box.width > 1 && box.height > 1 && box.left >= 0 && box.left < width;
    if (visible && box.right > width + 2 && !scrolls(node))
      problems.push(`cut off at ${width}: ${node.tagName.toLowerCase()} ${cut(node.innerText || node.alt || "")}`);
  }
  for (const node of document.querySelectorAll(".MathJax_Display, mjx-container[display='true']"))
    if (node.scrollWidth > node.clientWidth + 2)
      problems.push(`a formula is ${node.scrollWidth} wide, its place ${node.clientWidth}: ${cut(node.textContent)}`);
  return [...new Set(problems)];
}

// moves every slider with the keyboard: its picture and its label change, no other slider's do, and it comes back
async function sliders(page) {
  const problems = [], found = await page.$$("input[type=range]");
  const state = (input) => input.evaluate((node) => {
    const box = node.closest("div"), image = box.querySelector("img");
    return image && { label: box.querySelector("span").textContent, alt: image.alt, source: image.src };
  });
  for (const input of found) {
    const name = `slider ${(await input.getAttribute("aria-label")) || "without a name"}: `;
    const before = await Promise.all(found.map(state)), k = found.indexOf(input);
    if (!before[k] || !(await input.isVisible())) { problems.push(name + "is not seen, or has no picture"); continue; }
    const image = (await input.evaluateHandle((node) => node.closest("div").querySelector("img"))).asElement();
    const seen = async () => { await page.waitForTimeout(150); return (await image.screenshot()).toString("base64"); };
    const [least, most, start] = await input.evaluate((node) => [node.min, node.max, node.value].map(Number));
    const first = await seen(), keys = (key, times) => Array(times).fill(key), pictures = new Set(), labels = new Set();
    await input.focus();
    for (const key of ["Home", ...keys("ArrowRight", most - least), "Home", ...keys("ArrowRight", start - least)]) {
      await page.keyboard.press(key);
      if (labels.size <= most - least) pictures.add(await seen());
      labels.add((await state(input)).label);
    }
    const after = await Promise.all(found.map(state));
    if (pictures.size < 2) problems.push(name + "the picture does not change");
    if (labels.size !== most - least + 1) problems.push(name + `${labels.size} labels, ${most - least + 1} frames`);
    let same = false;
    for (let k = 0; k < 5 && !same; k++) same = (await seen()) === first; // a busy machine draws late
    if (!same) problems.push(name + "at its start again, it shows another picture");
    if (JSON.stringify(after) !== JSON.stringify(before)) problems.push(name + "something else changed with it");
  }
  return problems;
}

async function pages(browser, widths, files) {
  for (const file of files)
    for (const width of widths) {
      const page = await browser.newPage({ viewport: { width, height: 1200 } }), problems = [];
      page.on("pageerror", (error) => problems.push("script: " + String(error).slice(0, 100)));
      await offline(page);
      await page.goto(url.pathToFileURL(file).href, { waitUntil: "load", timeout: 60000 });
      // MathJax has set everything when there are formulas, and no longer more of them
      const expected = /\\(tag|frac|sum|bar)\b/.test(fs.readFileSync(file, "utf8"));
      let before = -1;
      for (let k = 0; k < 40; k++) {
        const now = await page.evaluate(() => document.querySelectorAll(".MathJax, .MathJax_CHTML, mjx-container").length);
        if (now === before && k > 2 && (now > 0 || !expected)) break;
        before = now;
        await page.waitForTimeout(500);
      }
      await page.evaluate(async () => { // formulas are there before they have their final width
        if (window.MathJax?.Hub) await new Promise((done) => window.MathJax.Hub.Queue(done));
        await window.MathJax?.startup?.promise;
        await document.fonts.ready;
      });
      problems.push(...(await page.evaluate(look)), ...(await sliders(page)));
      if (!before && expected) problems.push("no mathematics was set");
      const height = await page.evaluate(() => document.documentElement.scrollHeight);
      const name = (file.includes("/site/") ? "site_" : "") + path.basename(file, ".html");
      let unseen = 0;
      for (let y = 0, k = 0; y < height; y += 2400, k++) {
        const clip = { x: 0, y, width, height: Math.min(2400, height - y) };
        const shot = { path: path.join(out, `${name}_${width}_${k}.png`), fullPage: true, clip };
        await page.screenshot(shot).catch(() => unseen++); // a busy machine is no fault of the page
      }
      console.log(JSON.stringify({ page: name, width, formulas: before, unseen, problems }));
      await page.close();
    }
}

async function lab(browser, base, token, notebooks) {
  for (const notebook of notebooks) {
    const page = await browser.newPage({ viewport: { width: 1400, height: 1000 } });
    const problems = [], start = Date.now();
    await page.goto(`${base}/doc/tree/${notebook}?token=${token}&reset`, { waitUntil: "domcontentloaded" });
    await page.waitForSelector(".jp-Notebook .jp-Cell", { timeout: 60000 });
    // "idle" is shown before there is a kernel, and without one JupyterLab asks for it: wait for the page's connection
    await page.waitForFunction(async ([base, token, notebook]) => {
      const sessions = await (await fetch(`${base}/api/sessions?token=${token}`)).json();
      return sessions.some(({ path, kernel }) => path === notebook && kernel.connections && kernel.execution_state === "idle");
    }, [base, token, notebook], { timeout: 60000, polling: 200 });
    await page.waitForSelector('.jp-Notebook-ExecutionIndicator[data-status="idle"]', { timeout: 60000 });
    const runAll = async () => {
      await page.click('.lm-MenuBar-item:has-text("Run")');
      await page.click('.lm-Menu-item[data-command="runmenu:run-all"]');
      await page.waitForTimeout(2000);
    };
    await runAll();
    let figure = null, again = 0;
    for (;;) {
      await page.waitForTimeout(250);
      const state = await page.evaluate(() => ({
        idle: document.querySelector(".jp-Notebook-ExecutionIndicator").dataset.status === "idle",
        waiting: [...document.querySelectorAll(".jp-InputPrompt")].filter((p) => p.textContent.includes("*")).length,
        left: [...document.querySelectorAll(".jp-CodeCell")].filter((cell) =>
          !/\d/.test(cell.querySelector(".jp-InputPrompt").textContent)).length,
        failed: document.querySelectorAll('[data-mime-type="application/vnd.jupyter.error"]').length,
        drawn: [...document.querySelectorAll(".jp-CodeCell")].some((cell) =>
          /\d/.test(cell.querySelector(".jp-InputPrompt").textContent) && cell.querySelector(".jp-OutputArea img")),
      }));
      if (state.drawn && figure === null) figure = (Date.now() - start) / 1000;
      if (state.idle && !state.waiting) {
        if (!state.left || state.failed) break;
        // in a page that has just begun, JupyterLab may let the command go by, or some of the cells
        if (again++ === 4) { problems.push(`${state.left} cells did not run`); break; }
        await runAll();
      }
      if (Date.now() - start > 300000) { problems.push("not done after five minutes"); break; }
    }
    await page.waitForTimeout(1000);
    problems.push(...(await page.evaluate(() => {
      const found = [];
      for (const kind of ["error", "stderr"])
        for (const output of document.querySelectorAll(`[data-mime-type="application/vnd.jupyter.${kind}"]`))
          found.push(`${kind}: ${output.textContent.slice(0, 120)}`);
      for (const node of document.querySelectorAll("mjx-merror")) found.push("mathematics: " + node.textContent);
      for (const image of document.images)
        if (image.complete && !image.naturalWidth && !/^https?:\/\/(?!127)/.test(image.src)) found.push("no picture: " + image.src.slice(0, 70));
      if (!document.querySelector(".jp-OutputArea img")) found.push("no figure");
      return found;
    })));
    problems.push(...(await sliders(page)));
    await page.evaluate(() => (document.querySelector(".jp-WindowedPanel-outer").scrollTop = 0));
    const height = await page.evaluate(() => document.querySelector(".jp-WindowedPanel-inner").scrollHeight);
    for (let y = 0, k = 0; y < height && k < 30; y += 880, k++) {
      await page.evaluate((y) => (document.querySelector(".jp-WindowedPanel-outer").scrollTop = y), y);
      await page.waitForTimeout(200);
      await page.screenshot({ path: path.join(out, `lab_${path.basename(notebook, ".ipynb")}_${k}.png`) });
    }
    const seconds = (Date.now() - start) / 1000;
    console.log(JSON.stringify({ page: `JupyterLab, ${path.basename(notebook)}`, seconds, figure, problems }));
    await page.close();
  }
}

(async () => {
  const flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run", "--disable-sync"];
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM, headless: true, args: flags });
  try {
    if (mode === "pages") await pages(browser, rest[0].split(",").map(Number), rest.slice(1));
    else await lab(browser, rest[0], rest[1], rest.slice(2));
  } finally {
    await browser.close();
  }
})().catch((error) => { console.error(error); process.exit(1); });
