function same(one, other) {
  if (Object.is(one, other)) return true;
  if (typeof one !== "object" || typeof other !== "object" || one === null || other === null) return false;
  if (ArrayBuffer.isView(one) || Array.isArray(one)) {
    return one.constructor === other.constructor && one.length === other.length && one.every((value, i) => same(value, other[i]));
  }
  const names = Object.keys(one);
  return names.length === Object.keys(other).length && names.every((name) => name in other && same(one[name], other[name]));
}
const short = (value) => String(JSON.stringify(value)).slice(0, 200);
const assert = (holds, message = "does not hold") => { if (!holds) throw new Error(message); };
assert.equal = (one, other, message = "") => assert(Object.is(one, other), `${short(one)} is not ${short(other)} ${message}`);
assert.deepEqual = (one, other, message = "") => assert(same(one, other), `${short(one)} is not ${short(other)} ${message}`);
assert.throws = (call, pattern) => {
  let thrown = null;
  try { call(); } catch (error) { thrown = error; }
  assert(thrown !== null && pattern.test(String(thrown)), `${thrown} is not ${pattern}`);
};
export default assert;
