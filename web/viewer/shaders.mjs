// A Gaussian between two frames, projected as models/render/splats.py does it: the same dilation, thresholds and blending.

export const ROW = 1024; // Gaussians in one row of a texture

export const VERTEX = `#version 300 es
precision highp float;
precision highp int;
precision highp usampler2DArray;
precision highp isampler2DArray;

uniform usampler2DArray position, logscale, rgba;
uniform isampler2DArray rotation;
uniform ivec4 leftLayers, rightLayers; // of position, rotation, logscale, rgba
uniform float share, pointSize, leastOpacity, focal;
uniform vec3 low, extent, eye;
uniform mat3 view; // world to camera: x right, y up, z back
uniform vec2 size; // pixels

in uint splat;
out vec2 place; // in standard deviations of the Gaussian's picture
out vec4 colour;

const float NEAR = 0.01, DILATION = 0.3, THRESHOLD = 1.0 / 255.0;

mat3 turn(vec4 q) { // w, x, y, z
  float w = q.x, x = q.y, y = q.z, z = q.w;
  return mat3(1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y + w * z), 2.0 * (x * z - w * y),
              2.0 * (x * y - w * z), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z + w * x),
              2.0 * (x * z + w * y), 2.0 * (y * z - w * x), 1.0 - 2.0 * (x * x + y * y));
}

void main() {
  gl_Position = vec4(2.0, 2.0, 2.0, 1.0); // outside, unless something is to be seen
  ivec2 at = ivec2(int(splat) % ${ROW}, int(splat) / ${ROW});

  vec4 look = mix(vec4(texelFetch(rgba, ivec3(at, leftLayers.w), 0)), vec4(texelFetch(rgba, ivec3(at, rightLayers.w), 0)), share) / 255.0;
  if (look.a < max(leastOpacity, THRESHOLD)) return;

  vec3 p = mix(vec3(texelFetch(position, ivec3(at, leftLayers.x), 0).xyz), vec3(texelFetch(position, ivec3(at, rightLayers.x), 0).xyz), share);
  vec3 camera = view * (low + p / 65535.0 * extent - eye);
  float depth = -camera.z;
  if (depth < NEAR) return;

  vec3 logs = mix(vec3(texelFetch(logscale, ivec3(at, leftLayers.z), 0).xyz), vec3(texelFetch(logscale, ivec3(at, rightLayers.z), 0).xyz), share);
  vec3 scale = exp(logs / 16.0 - 10.0) * pointSize;
  vec4 q = vec4(texelFetch(rotation, ivec3(at, leftLayers.y), 0)), r = vec4(texelFetch(rotation, ivec3(at, rightLayers.y), 0));
  q = normalize(mix(q, dot(q, r) < 0.0 ? -r : r, share)); // the shorter way round
  mat3 axes = turn(q);
  mat3 spread = view * mat3(axes[0] * scale.x, axes[1] * scale.y, axes[2] * scale.z);

  vec2 limit = 1.3 * size / (2.0 * focal); // beyond the picture's edge the projection is not linearised further out
  vec2 slope = clamp(camera.xy / depth, -limit, limit);
  vec3 du = focal / depth * vec3(1.0, 0.0, slope.x), dv = focal / depth * vec3(0.0, 1.0, slope.y);
  vec3 alongU = du * spread, alongV = dv * spread; // transposed: rows of the picture's covariance root
  float a = dot(alongU, alongU) + DILATION, b = dot(alongU, alongV), c = dot(alongV, alongV) + DILATION;

  float middle = 0.5 * (a + c), apart = length(vec2(0.5 * (a - c), b));
  vec2 major = abs(b) > 1e-9 ? normalize(vec2(b, middle + apart - a)) : (a >= c ? vec2(1.0, 0.0) : vec2(0.0, 1.0));
  vec2 deviations = sqrt(vec2(middle + apart, max(middle - apart, 1e-6)));

  vec2 corner = vec2(gl_VertexID & 1, gl_VertexID >> 1) * 2.0 - 1.0;
  place = corner * sqrt(2.0 * log(look.a / THRESHOLD)); // where its opacity falls below the threshold
  vec2 pixels = place.x * deviations.x * major + place.y * deviations.y * vec2(-major.y, major.x);
  vec2 centre = focal * camera.xy / depth;
  gl_Position = vec4((centre + pixels) * 2.0 / size, 0.0, 1.0);
  colour = look;
}`;

export const FRAGMENT = `#version 300 es
precision highp float;
in vec2 place;
in vec4 colour;
out vec4 seen;

void main() {
  float alpha = min(0.999, colour.a * exp(-0.5 * dot(place, place)));
  if (alpha < 1.0 / 255.0) discard;
  seen = vec4(colour.rgb * alpha, alpha);
}`;
